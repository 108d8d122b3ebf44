//! The part of supervisor's XML-RPC interface that event listeners use (superlance's memmon and httpok look at processes and
//! restart them), on a Unix socket that only this user can reach. It is found by the listener in `SUPERVISOR_SERVER_URL`.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::mapping::{Info, Mapper};
use crate::cli::connection;
use crate::cli::output;
use crate::cli::status::asking::now;
use crate::wire::{Client, command};

/// The most that a question may have, in bytes.
const LARGEST: usize = 64 * 1024;
/// How long a process may take to stop or start before the listener is told so.
const PATIENCE: Duration = Duration::from_secs(60);

/// What supervisor says when something cannot be done: number and text.
type Fault = (i32, String);

/// The open socket. Dropping it removes it.
pub struct Rpc {
    dir: PathBuf,
}

impl Drop for Rpc {
    fn drop(&mut self) {
        // What is left of it hinders nobody.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Rpc {
    /// Opens it and answers, on a thread for each connection.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn open(connection: connection::Args, mapper: Arc<Mutex<Mapper>>) -> io::Result<Self> {
        let unique = format!("circ-events-{}-{:x}", std::process::id(), now().to_bits());
        let dir = std::env::temp_dir().join(unique);
        fs::DirBuilder::new().mode(0o700).create(&dir)?;
        let rpc = Rpc { dir };
        let listener = UnixListener::bind(rpc.dir.join("rpc"))?;
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (connection, mapper) = (connection.clone(), mapper.clone());
                std::thread::spawn(move || {
                    // Who hangs up in the middle of a question gets no answer.
                    let _ = serve(&stream, |call| answer(call, &connection, &mapper));
                });
            }
        });
        Ok(rpc)
    }

    /// For `SUPERVISOR_SERVER_URL`.
    pub fn url(&self) -> String {
        format!("unix://{}", self.dir.join("rpc").display())
    }
}

/// Answers questions by HTTP until the other side closes.
fn serve(stream: &UnixStream, answer: impl Fn(&str) -> String) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    loop {
        let mut length = 0;
        let mut head = 0;
        loop {
            let mut line = String::new();
            if reader.by_ref().take(LARGEST as u64).read_line(&mut line)? == 0 {
                return Ok(());
            }
            head += line.len();
            if head > LARGEST {
                return Ok(());
            }
            if line.trim_end().is_empty() {
                break;
            }
            let header = line.split_once(':');
            if let Some((name, value)) = header
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        if length > LARGEST {
            return Ok(());
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let reply = answer(&String::from_utf8_lossy(&body));
        write!(
            writer,
            "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {}\r\n\r\n{reply}",
            reply.len()
        )?;
    }
}

/// The text between a tag and its end, and what follows.
fn between<'a>(text: &'a str, tag: &str) -> Option<(&'a str, &'a str)> {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    let from = text.find(&open)? + open.len();
    let end = from + text.get(from..)?.find(&close)?;
    Some((text.get(from..end)?, text.get(end + close.len()..)?))
}

/// The method and its parameters, each as a text.
fn question(call: &str) -> Option<(String, Vec<String>)> {
    let plain = |text: &str| {
        [
            ("&lt;", "<"),
            ("&gt;", ">"),
            ("&quot;", "\""),
            ("&apos;", "'"),
            ("&amp;", "&"),
        ]
        .iter()
        .fold(text.to_string(), |text, (escaped, plain)| {
            text.replace(escaped, plain)
        })
    };
    let (method, mut rest) = between(call, "methodName")?;
    let mut parameters = Vec::new();
    while let Some((value, more)) = between(rest, "value") {
        rest = more;
        let typed = ["string", "int", "i4", "boolean"]
            .iter()
            .find_map(|tag| Some(between(value, tag)?.0));
        // A value without a type is a text.
        parameters.push(plain(typed.unwrap_or(value)));
    }
    Some((method.trim().to_string(), parameters))
}

fn xml(value: &Value) -> String {
    let escaped = |text: &str| {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        text.replace('>', "&gt;")
    };
    let inner = match value {
        Value::Null => "<nil/>".to_string(),
        Value::Bool(flag) => format!("<boolean>{}</boolean>", u8::from(*flag)),
        Value::Number(number) => format!("<int>{number}</int>"),
        Value::String(text) => format!("<string>{}</string>", escaped(text)),
        Value::Array(list) => {
            let all: String = list.iter().map(xml).collect();
            format!("<array><data>{all}</data></array>")
        }
        Value::Object(map) => {
            let mut all = String::new();
            for (name, value) in map {
                let _ = write!(
                    all,
                    "<member><name>{}</name>{}</member>",
                    escaped(name),
                    xml(value)
                );
            }
            format!("<struct>{all}</struct>")
        }
    };
    format!("<value>{inner}</value>")
}

fn answer(call: &str, connection: &connection::Args, mapper: &Mutex<Mapper>) -> String {
    let outcome = match question(call) {
        Some((method, parameters)) => perform(&method, &parameters, connection, mapper),
        None => Err((2, "INCORRECT_PARAMETERS".to_string())),
    };
    let inner = match outcome {
        Ok(value) => format!("<params><param>{}</param></params>", xml(&value)),
        Err((code, text)) => {
            let fault = json!({"faultCode": code, "faultString": text});
            format!("<fault>{}</fault>", xml(&fault))
        }
    };
    format!("<?xml version='1.0'?>\n<methodResponse>{inner}</methodResponse>")
}

fn perform(
    method: &str,
    parameters: &[String],
    connection: &connection::Args,
    mapper: &Mutex<Mapper>,
) -> Result<Value, Fault> {
    let processes = || {
        let mapper = mapper.lock().unwrap_or_else(PoisonError::into_inner);
        mapper.processes_told()
    };
    let named = || -> Result<Info, Fault> {
        let wanted = parameters
            .first()
            .ok_or((2, "INCORRECT_PARAMETERS".to_string()))?;
        let (group, name) = wanted.split_once(':').unwrap_or((wanted, wanted));
        let found = processes()
            .into_iter()
            .find(|one| one.group == group && one.name == name);
        found.ok_or((10, format!("BAD_NAME: {wanted}")))
    };
    let order = |command: &str, info: &Info, pid: Option<i64>| -> Result<Value, Fault> {
        let mut properties = Map::from_iter([
            ("name".to_string(), Value::from(info.watcher.as_str())),
            ("waiting".to_string(), Value::from(true)),
        ]);
        properties.extend(pid.map(|pid| ("pid".to_string(), Value::from(pid))));
        let failed = |why: String| (30, format!("FAILED: {why}"));
        let route = connection.route().map_err(|why| failed(why.to_string()))?;
        let reply = Client::connect(&route.endpoint, connection.timeout())
            .and_then(|mut client| {
                client.call_within(command::message(command, properties), PATIENCE)
            })
            .map_err(|error| failed(route.explain(&error)))?;
        match reply.get("status").and_then(Value::as_str) {
            Some("error") => Err(failed(output::refusal(&reply))),
            _ => Ok(Value::from(true)),
        }
    };
    Ok(match method {
        "supervisor.getAPIVersion" | "supervisor.getVersion" => json!("3.0"),
        "supervisor.getSupervisorVersion" => json!(format!("circ {}", env!("CARGO_PKG_VERSION"))),
        "supervisor.getIdentification" => json!("supervisor"),
        "supervisor.getState" => json!({"statecode": 1, "statename": "RUNNING"}),
        "supervisor.getAllProcessInfo" => processes().iter().map(told).collect(),
        "supervisor.getProcessInfo" => told(&named()?),
        "supervisor.stopProcess" => {
            let info = named()?;
            match info.pid {
                None => return Err((70, format!("NOT_RUNNING: {}", info.name))),
                // One of several: it is replaced, which is the next that its listener would ask for.
                Some(pid) if info.several => order("kill", &info, Some(pid))?,
                Some(_) => order("stop", &info, None)?,
            }
        }
        "supervisor.startProcess" => {
            let info = named()?;
            match info.pid {
                Some(_) if info.several => Value::from(true),
                // What is known of it here may be older than the stop that was just ordered; the daemon knows.
                _ => order("start", &info, None)?,
            }
        }
        _ => return Err((1, format!("UNKNOWN_METHOD: {method}"))),
    })
}

/// As supervisor tells of a process.
fn told(info: &Info) -> Value {
    let now = now() as i64;
    let start = info.since.map_or(0, |since| since as i64);
    let description = match info.pid {
        Some(pid) => format!("pid {pid}"),
        None => info.state.to_lowercase(),
    };
    json!({
        "name": info.name, "group": info.group, "state": info.code, "statename": info.state,
        "pid": info.pid.unwrap_or(0), "start": start, "stop": 0, "now": now, "exitstatus": 0,
        "spawnerr": "", "description": description,
        "logfile": "", "stdout_logfile": "", "stderr_logfile": "",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_read_and_answers_written() {
        let call = "<?xml version='1.0'?>\n<methodCall>\n<methodName>supervisor.stopProcess</methodName>\n<params>\n\
                    <param>\n<value><string>a&amp;b:c</string></value>\n</param>\n<param>\n<value><boolean>1</boolean>\
                    </value>\n</param>\n</params>\n</methodCall>\n";
        assert_eq!(
            question(call),
            Some((
                "supervisor.stopProcess".to_string(),
                vec!["a&b:c".to_string(), "1".to_string()]
            ))
        );
        assert_eq!(question("<methodName>"), None);
        assert_eq!(
            xml(&json!({"a": [1, true, "<&>"]})),
            "<value><struct><member><name>a</name><value><array><data><value><int>1</int></value><value><boolean>1\
             </boolean></value><value><string>&lt;&amp;&gt;</string></value></data></array></value></member></struct></value>"
        );
    }
}
