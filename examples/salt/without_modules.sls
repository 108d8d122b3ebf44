{#- No Salt module of circ is needed: cmd.run reads what `circ state` prints with --format salt.

    With test=True, Salt runs the test_name, which must end with 0 also if something would change. #}
{%- set ensure = 'circ state ensure web --procs 3 --format salt --config '
                 ~ salt['config.get']('circus:config', '/etc/circus.ini') %}
{%- set directory = salt['file.dirname'](salt['config.get']('circus:bin', '/usr/local/bin/circ')) %}

web has three workers:
  cmd.run:
    - name: {{ ensure }}
    - stateful:
      - test_name: {{ ensure }} --check --check-exit-zero
    - prepend_path: {{ directory }}
