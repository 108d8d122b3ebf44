//! What an event listener of supervisor says, and what it is told: supervisor's protocol, version 3.0. Pure.
//!
//! A listener says `READY\n` and is sent one event: a line of `key:value` words, the last of which is the number of characters
//! that follow. It answers `RESULT 2\nOK` or, if it wants the event again, `RESULT 4\nFAIL`, and then `READY\n` again.

use super::mapping::Notice;

/// The most that a listener may say without making sense: it is no listener.
const NONSENSE: usize = 4096;

/// Where a listener is in its round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It has not said that it is ready.
    Starting,
    /// It waits for an event.
    Ready,
    /// It has one.
    Busy,
}

/// What it has said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// It waits for an event.
    Ready,
    /// It has dealt with the one it had.
    Done,
    /// It wants that one again.
    Failed(String),
    /// It does not speak the protocol.
    Nonsense(String),
}

/// One listener's side of the talk.
#[derive(Debug)]
pub struct Talk {
    state: State,
    heard: Vec<u8>,
}

impl Talk {
    /// Of a listener that has just been started.
    pub fn new() -> Self {
        Talk {
            state: State::Starting,
            heard: Vec::new(),
        }
    }

    /// Where it is.
    pub fn state(&self) -> State {
        self.state
    }

    /// It is sent an event.
    pub fn sent(&mut self) {
        self.state = State::Busy;
    }

    /// It has written these bytes; what that says.
    pub fn hear(&mut self, bytes: &[u8]) -> Vec<Said> {
        self.heard.extend_from_slice(bytes);
        let mut said = Vec::new();
        while let Some(one) = self.next() {
            let over = matches!(one, Said::Nonsense(_));
            said.push(one);
            if over {
                self.heard.clear();
                break;
            }
        }
        said
    }

    fn next(&mut self) -> Option<Said> {
        let nonsense = |heard: &[u8]| {
            let shown: String = String::from_utf8_lossy(heard).chars().take(200).collect();
            Some(Said::Nonsense(shown))
        };
        if self.heard.is_empty() {
            return None;
        }
        if self.state == State::Ready {
            // Nobody has asked it anything.
            return nonsense(&self.heard);
        }
        let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') else {
            return (self.heard.len() > NONSENSE).then(|| nonsense(&self.heard))?;
        };
        let line = String::from_utf8_lossy(&self.heard[..end]).into_owned();
        match self.state {
            State::Starting => {
                if line.trim_end() != "READY" {
                    return nonsense(&self.heard);
                }
                self.heard.drain(..=end);
                self.state = State::Ready;
                Some(Said::Ready)
            }
            _ => {
                let length = line
                    .strip_prefix("RESULT ")
                    .and_then(|number| number.trim().parse::<usize>().ok())
                    .filter(|length| *length <= NONSENSE);
                let Some(length) = length else {
                    return nonsense(&self.heard);
                };
                let result = self.heard.get(end + 1..end + 1 + length)?.to_vec();
                self.heard.drain(..end + 1 + length);
                self.state = State::Starting;
                Some(match result.as_slice() {
                    b"OK" => Said::Done,
                    other => Said::Failed(String::from_utf8_lossy(other).into_owned()),
                })
            }
        }
    }
}

/// An event as it is sent. `serial` numbers all events, `pool_serial` those of this listener.
pub fn message(notice: &Notice, pool: &str, serial: u64, pool_serial: u64) -> String {
    format!(
        "ver:3.0 server:supervisor serial:{serial} pool:{pool} poolserial:{pool_serial} eventname:{} len:{}\n{}",
        notice.kind,
        // Characters, as supervisor counts: its listeners read text.
        notice.payload.chars().count(),
        notice.payload
    )
}

/// Types of events that stand for several.
const FAMILIES: &[&str] = &[
    "EVENT",
    "PROCESS_STATE",
    "PROCESS_GROUP",
    "SUPERVISOR_STATE_CHANGE",
    "TICK",
];

/// Types that supervisor has and nothing here leads to.
const NEVER: &[&str] = &[
    "PROCESS_COMMUNICATION",
    "PROCESS_COMMUNICATION_STDOUT",
    "PROCESS_COMMUNICATION_STDERR",
    "PROCESS_LOG",
    "PROCESS_LOG_STDOUT",
    "PROCESS_LOG_STDERR",
    "PROCESS_STATE_UNKNOWN",
    "REMOTE_COMMUNICATION",
];

/// A type of events by its name.
///
/// # Errors
/// There is none of this name, or there never is such an event.
pub fn kind(text: &str) -> Result<String, String> {
    let name = text.trim().to_uppercase();
    let kinds = super::mapping::KINDS.iter().chain(FAMILIES);
    if kinds.clone().any(|known| *known == name) {
        return Ok(name);
    }
    if NEVER.contains(&name.as_str()) {
        return Err(format!(
            "{name}: a daemon of Circus publishes nothing that would be one"
        ));
    }
    let all: Vec<&str> = kinds.copied().collect();
    Err(format!("{text}: types of events are {}", all.join(", ")))
}

/// Whether an event of this type is one of a wanted type: of that itself, or of its family.
pub fn is_of(kind: &str, wanted: &str) -> bool {
    let family = kind
        .strip_prefix(wanted)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('_'));
    wanted == "EVENT" || family
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_in_any_pieces() {
        let mut talk = Talk::new();
        assert_eq!(talk.hear(b"REA"), []);
        assert_eq!(talk.hear(b"DY\n"), [Said::Ready]);
        talk.sent();
        assert_eq!(talk.hear(b"RESULT 2\nO"), []);
        assert_eq!(talk.hear(b"KREADY\n"), [Said::Done, Said::Ready]);
        talk.sent();
        assert_eq!(
            talk.hear(b"RESULT 4\nFAIL"),
            [Said::Failed("FAIL".to_string())]
        );
        assert_eq!(talk.state(), State::Starting);
        assert_eq!(talk.hear(b"READY\n"), [Said::Ready]);
    }

    #[test]
    fn nonsense_is_told() {
        let told = |state: Option<State>, bytes: &[u8]| {
            let mut talk = Talk::new();
            if state.is_some() {
                talk.hear(b"READY\n");
            }
            if state == Some(State::Busy) {
                talk.sent();
            }
            matches!(talk.hear(bytes).as_slice(), [Said::Nonsense(_)])
        };
        assert!(told(None, b"hello\n"));
        assert!(told(None, &[b'x'; NONSENSE + 1]));
        assert!(told(Some(State::Ready), b"x"));
        assert!(told(Some(State::Busy), b"READY\n"));
        assert!(told(Some(State::Busy), b"RESULT x\n"));
        assert!(told(Some(State::Busy), b"RESULT 99999999\n"));
    }

    #[test]
    fn families_hold_their_types() {
        for (name, wanted, is) in [
            ("TICK_5", "TICK", true),
            ("TICK_5", "TICK_5", true),
            ("TICK_60", "TICK_6", false),
            ("PROCESS_STATE_EXITED", "PROCESS_STATE", true),
            ("PROCESS_GROUP_ADDED", "PROCESS_STATE", false),
            ("PROCESS_STATE_EXITED", "EVENT", true),
        ] {
            assert_eq!(is_of(name, wanted), is, "{name} {wanted}");
        }
        assert_eq!(kind("process_state").unwrap(), "PROCESS_STATE");
        assert!(
            kind("PROCESS_LOG")
                .unwrap_err()
                .contains("nothing that would be one")
        );
        assert!(kind("TICKS").is_err());
    }

    #[test]
    fn a_message_says_how_long_it_is() {
        let notice = Notice {
            kind: "TICK_5",
            payload: "when:5".to_string(),
        };
        assert_eq!(
            message(&notice, "l", 3, 2),
            "ver:3.0 server:supervisor serial:3 pool:l poolserial:2 eventname:TICK_5 len:6\nwhen:5"
        );
    }
}
