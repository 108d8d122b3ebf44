//! `INFO` of a Redis server: as much of its protocol as that takes, within a time.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

/// The longest answer that is read; a real one has some kilobytes.
const LONGEST: usize = 1024 * 1024;

/// Where a server is, and who one is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    place: Place,
    user: Option<String>,
    password: Option<String>,
    database: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Tcp(String, u16),
    Unix(String),
}

impl Address {
    /// `redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]` or `unix://[…@]PATH[?db=N]`.
    ///
    /// # Errors
    /// It is neither, or asks for encryption, which is not there.
    pub fn parse(url: &str) -> Result<Address, String> {
        let (scheme, rest) = url
            .split_once("://")
            .ok_or_else(|| format!("{url} is no address such as redis://localhost:6379/0"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (account, rest) = match rest.rsplit_once('@') {
            Some((account, rest)) => (Some(account), rest),
            None => (None, rest),
        };
        let mut database = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("db="))
            .map(str::to_owned);
        let place = match scheme {
            "redis" => {
                let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
                if !path.is_empty() && database.is_none() {
                    database = Some(path.to_owned());
                }
                let (host, port) = match host.rsplit_once(':') {
                    Some((name, port)) if !port.ends_with(']') => (
                        name,
                        port.parse()
                            .map_err(|_| format!("{port} is not a port from 0 to 65535"))?,
                    ),
                    _ => (host, 6379),
                };
                let host = host.trim_start_matches('[').trim_end_matches(']');
                Place::Tcp(
                    if host.is_empty() { "localhost" } else { host }.into(),
                    port,
                )
            }
            "unix" => Place::Unix(rest.to_owned()),
            "rediss" => {
                return Err("rediss:// (TLS) is not offered; use redis:// or unix://".to_owned());
            }
            other => return Err(format!("{other}:// is neither redis:// nor unix://")),
        };
        let database = database
            .map(|text| {
                text.parse()
                    .map_err(|_| format!("{text} is not the number of a database"))
            })
            .transpose()?;
        let (user, password) = match account {
            None => (None, None),
            Some(account) => {
                let (user, password) = account.split_once(':').unwrap_or(("", account));
                let user = decoded(user);
                (
                    Some(user).filter(|user| !user.is_empty()),
                    Some(decoded(password)),
                )
            }
        };
        Ok(Address {
            place,
            user,
            password,
            database,
        })
    }
}

/// `%40` and the like.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (first, code) {
            (b'%', Some(code)) => {
                bytes.push(code);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Asks the server at `url` what it tells of itself.
///
/// # Errors
/// What went wrong, in words; that it took longer than `timeout` seconds among it.
pub async fn info(url: &str, timeout: f64) -> Result<Vec<(String, String)>, String> {
    let address = Address::parse(url)?;
    let limit = Duration::try_from_secs_f64(timeout).unwrap_or(Duration::MAX);
    let asking = async {
        match &address.place {
            Place::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port));
                let why = |why| format!("{host}:{port}: {why}");
                ask(stream.await.map_err(why)?, &address).await
            }
            Place::Unix(path) => {
                let stream = UnixStream::connect(path);
                let why = |why| format!("{path}: {why}");
                ask(stream.await.map_err(why)?, &address).await
            }
        }
    };
    match tokio::time::timeout(limit, asking).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("no answer within {timeout} s")),
    }
}

async fn ask(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    address: &Address,
) -> Result<Vec<(String, String)>, String> {
    let mut unread = Vec::new();
    if let Some(password) = &address.password {
        let mut words = vec!["AUTH"];
        words.extend(address.user.as_deref());
        words.push(password);
        answer(&mut stream, &mut unread, &words).await?;
    }
    if let Some(database) = address.database.filter(|number| *number != 0) {
        answer(&mut stream, &mut unread, &["SELECT", &database.to_string()]).await?;
    }
    let told = answer(&mut stream, &mut unread, &["INFO"]).await?;
    Ok(told
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
        .collect())
}

/// Sends a command and reads its answer: a line or a text.
async fn answer(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    unread: &mut Vec<u8>,
    words: &[&str],
) -> Result<String, String> {
    let mut message = format!("*{}\r\n", words.len());
    for word in words {
        message.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    let broken = |why: std::io::Error| why.to_string();
    stream.write_all(message.as_bytes()).await.map_err(broken)?;
    loop {
        if let Some((answer, length)) = parse(unread)? {
            unread.drain(..length);
            return answer;
        }
        if unread.len() > LONGEST {
            return Err("it answers without end".to_owned());
        }
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece).await.map_err(broken)?;
        if count == 0 {
            return Err("it closed the connection".to_owned());
        }
        unread.extend_from_slice(&piece[..count]);
    }
}

/// An answer and how many bytes it has, once all of them are there; the outer error is of something that is no Redis.
#[expect(
    clippy::type_complexity,
    reason = "an answer of the server may be an error itself"
)]
fn parse(bytes: &[u8]) -> Result<Option<(Result<String, String>, usize)>, String> {
    let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else {
        return Ok(None);
    };
    let line = String::from_utf8_lossy(&bytes[1.min(end)..end]).into_owned();
    match bytes[0] {
        b'+' | b':' => Ok(Some((Ok(line), end + 2))),
        b'-' => Ok(Some((Err(line), end + 2))),
        b'$' => {
            let length = line
                .parse::<usize>()
                .ok()
                .filter(|length| *length <= LONGEST)
                .ok_or("it sends a text without a length")?;
            let text = bytes.get(end + 2..end + 2 + length);
            let whole = bytes.len() >= end + 4 + length;
            Ok(text.filter(|_| whole).map(|text| {
                let text = String::from_utf8_lossy(text).into_owned();
                (Ok(text), end + 4 + length)
            }))
        }
        _ => Err("what answers there is no Redis server".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_servers() {
        let tcp = |host: &str, port| Place::Tcp(host.to_owned(), port);
        for (url, place, database) in [
            ("redis://localhost:6379/0", tcp("localhost", 6379), Some(0)),
            ("redis://h", tcp("h", 6379), None),
            ("redis://[::1]:7/2", tcp("::1", 7), Some(2)),
            ("redis://[::1]", tcp("::1", 6379), None),
            ("redis://u:p%40@h:1?db=3", tcp("h", 1), Some(3)),
            (
                "unix:///run/r.sock",
                Place::Unix("/run/r.sock".into()),
                None,
            ),
        ] {
            let address = Address::parse(url).unwrap();
            assert_eq!(
                (address.place, address.database),
                (place, database),
                "{url}"
            );
        }
        let address = Address::parse("redis://u:p%40@h").unwrap();
        assert_eq!(address.user.as_deref(), Some("u"));
        assert_eq!(address.password.as_deref(), Some("p@"));
        let address = Address::parse("redis://:p@h").unwrap();
        assert_eq!(
            (address.user, address.password.as_deref()),
            (None, Some("p"))
        );
        for url in [
            "h:1",
            "rediss://h",
            "http://h",
            "redis://h:x",
            "redis://h/x",
        ] {
            assert!(Address::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn answers_come_in_pieces() {
        let whole = b"$5\r\na:1\r\n\r\n+OK\r\n";
        for cut in 0..11 {
            assert_eq!(parse(&whole[..cut]), Ok(None), "{cut}");
        }
        assert_eq!(parse(whole), Ok(Some((Ok("a:1\r\n".into()), 11))));
        assert_eq!(parse(&whole[11..]), Ok(Some((Ok("OK".into()), 5))));
        assert_eq!(
            parse(b"-NOAUTH x\r\n"),
            Ok(Some((Err("NOAUTH x".into()), 11)))
        );
        assert!(parse(b"HTTP/1.1 400\r\n").is_err());
        assert!(parse(b"$-1\r\n").is_err());
        assert!(parse(b"\r\n").is_err());
    }
}
