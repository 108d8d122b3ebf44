{#- Brings the circ binary, starts a daemon with it and runs two workers, all in one run.

    Put the binary beside this file as `circ`, and `modules/salt` of the circ repository among the file_roots. Where
    things go is told by the minion's configuration or by pillar, under `circus`. #}
{%- set bin = salt['config.get']('circus:bin', '/usr/local/bin/circ') %}
{%- set config = salt['config.get']('circus:config', '/etc/circus.ini') %}

circ binary:
  file.managed:
    - name: {{ bin }}
    - source: salt://circ/circ
    - mode: '0755'
    - makedirs: True

circus.ini:
  file.managed:
    - name: {{ config }}
    - source: salt://circ/circus.ini.jinja
    - template: jinja
    - mode: '0644'
    - makedirs: True
    # The states edit this file: it is only made here.
    - replace: False

web:
  circus.watcher:
    - cmd: sleep 1000
    - procs: 2
    - bin: {{ bin }}
    - config: {{ config }}
    # On a machine with an init system, let that run `circ daemon` (service.running), and leave this out.
    - start_daemon: True
    - require:
      - file: circ binary
      - file: circus.ini
