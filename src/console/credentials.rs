//! Passwords, tokens and the key of sessions.

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use blake2::Blake2bMac512;
use blake2::digest::{FixedOutput, KeyInit, Update};
use std::fmt::{self, Write};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use subtle::ConstantTimeEq;

/// What is kept secret in files may have at most so many bytes.
const LARGEST: u64 = 64 * 1024;
/// A token that can be guessed is none.
const SHORTEST_TOKEN: usize = 16;

/// What clients have to know.
pub struct Credentials {
    password: Option<Secret>,
    tokens: Vec<Token>,
    key: SessionKey,
}

enum Secret {
    Plain(String),
    /// In PHC's format, `$argon2id$…`.
    Hash(String),
}

struct Token {
    text: String,
    may_change: bool,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has = self.password.is_some();
        write!(
            f,
            "Credentials {{ password: {has}, tokens: {} }}",
            self.tokens.len()
        )
    }
}

impl Credentials {
    /// Reads the files that are named.
    ///
    /// # Errors
    /// A sentence: which file, and what is wrong with it.
    pub fn read(password: Option<&Path>, tokens: Option<&Path>) -> Result<Credentials, String> {
        let text = |path: Option<&Path>| path.map(secret_file).transpose();
        let (password_text, token_text) = (text(password)?, text(tokens)?);
        let told = |why: String| {
            let path = if why.starts_with("token") {
                tokens
            } else {
                password
            };
            let path = path.unwrap_or(Path::new(""));
            format!("{}: {why}", path.display())
        };
        let found = Self::of(
            password_text.as_deref(),
            token_text.as_deref().unwrap_or(""),
        );
        let found = found.map_err(told)?;
        if tokens.is_some() && found.tokens.is_empty() {
            return Err(told(
                "tokens are expected, one a line, and there is none".into(),
            ));
        }
        Ok(found)
    }

    /// From the texts of the two files.
    ///
    /// # Errors
    /// What is wrong with them; what is said of tokens begins with `token`.
    pub fn of(password: Option<&str>, tokens: &str) -> Result<Credentials, String> {
        let password = password.map(|text| text.trim_end_matches(['\n', '\r']));
        let secret = match password {
            None => None,
            Some("") => return Err("the password is empty".into()),
            Some(text) if text.contains('\n') => {
                return Err("one line is expected: the password, or its hash".into());
            }
            Some(text) if text.starts_with("$argon2") => {
                let hash = PasswordHash::new(text);
                let hash = hash.map_err(|why| format!("the hash cannot be used: {why}"))?;
                if hash.salt.is_none() || hash.hash.is_none() {
                    return Err("the hash is not whole".into());
                }
                Some(Secret::Hash(text.to_owned()))
            }
            Some(text) => Some(Secret::Plain(text.to_owned())),
        };
        let key = SessionKey::new(password)?;
        let tokens = tokens.lines().enumerate().filter_map(|(at, line)| {
            let line = line.trim();
            (!line.is_empty() && !line.starts_with('#')).then(|| token(line, at + 1))
        });
        Ok(Credentials {
            password: secret,
            tokens: tokens.collect::<Result<_, _>>()?,
            key,
        })
    }

    /// Nobody has to know anything.
    pub fn is_open(&self) -> bool {
        self.password.is_none() && self.tokens.is_empty()
    }

    /// Whether there is a password to log in with.
    pub fn has_password(&self) -> bool {
        self.password.is_some()
    }

    /// Whether this is the password. Takes a while, and 19 MiB, for one that is kept as a hash.
    pub fn is_password(&self, given: &str) -> bool {
        match &self.password {
            None => false,
            Some(Secret::Plain(password)) => SessionKey::same(password, given),
            Some(Secret::Hash(hash)) => PasswordHash::new(hash).is_ok_and(|hash| {
                Argon2::default()
                    .verify_password(given.as_bytes(), &hash)
                    .is_ok()
            }),
        }
    }

    /// Whether this token may change anything; `None` if it is none of ours.
    pub fn token(&self, given: &str) -> Option<bool> {
        // all are compared, so that the time tells nothing
        let mut found = None;
        for token in &self.tokens {
            if SessionKey::same(&token.text, given) {
                found = Some(token.may_change);
            }
        }
        found
    }

    /// What sessions are signed with.
    pub fn key(&self) -> &SessionKey {
        &self.key
    }
}

fn token(line: &str, number: usize) -> Result<Token, String> {
    let (text, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let may_change = match rest.trim() {
        "" => true,
        "read-only" => false,
        other => {
            return Err(format!(
                "token in line {number}: {other:?} after it; only read-only may stand there"
            ));
        }
    };
    if text.len() < SHORTEST_TOKEN {
        return Err(format!(
            "token in line {number}: it has fewer than {SHORTEST_TOKEN} characters"
        ));
    }
    Ok(Token {
        text: text.to_owned(),
        may_change,
    })
}

/// The text of a file that nobody else may read.
fn secret_file(path: &Path) -> Result<String, String> {
    let fail = |why: &dyn fmt::Display| format!("cannot read {}: {why}", path.display());
    let file = File::open(path).map_err(|why| fail(&why))?;
    let about = file.metadata().map_err(|why| fail(&why))?;
    let others = about.mode() & 0o077;
    if about.is_file() && others != 0 {
        return Err(format!(
            "{}: others may read or write it (mode {:03o}); make it the owner's alone: chmod 600",
            path.display(),
            about.mode() & 0o777
        ));
    }
    let mut text = String::new();
    file.take(LARGEST)
        .read_to_string(&mut text)
        .map_err(|why| fail(&why))?;
    Ok(text)
}

/// What is written in a password file in place of the password.
///
/// # Errors
/// There is no chance to be had from the kernel.
pub fn hash(password: &str) -> Result<String, String> {
    let salt = SaltString::encode_b64(&random::<16>()?).map_err(|why| why.to_string())?;
    let hashed = Argon2::default().hash_password(password.as_bytes(), &salt);
    Ok(hashed.map_err(|why| why.to_string())?.to_string())
}

/// Chance.
///
/// # Errors
/// The kernel gives none.
pub fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|why| format!("the kernel gives no chance: {why}"))?;
    Ok(bytes)
}

/// What sessions are signed with. It is made from the password, so that a session survives the program that began it, and
/// ends with another password; slowly, so that nobody who has seen a session finds the password by it.
pub struct SessionKey([u8; 32]);

impl SessionKey {
    fn new(password: Option<&str>) -> Result<SessionKey, String> {
        let Some(password) = password else {
            return random().map(SessionKey);
        };
        let mut key = [0; 32];
        // of a hash, which has chance in it, any way will do
        let rounds = if password.starts_with("$argon2") {
            1
        } else {
            2
        };
        let memory = if rounds == 1 { 64 } else { 19 * 1024 };
        let params =
            Params::new(memory, rounds, 1, Some(key.len())).map_err(|why| why.to_string())?;
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(
                password.as_bytes(),
                b"circ web: the key of sessions",
                &mut key,
            )
            .map_err(|why| why.to_string())?;
        Ok(SessionKey(key))
    }

    /// A session that lasts until then: the text of its cookie, and its token.
    pub fn issue(&self, until: u64, chance: [u8; 16]) -> (String, String) {
        let begin = format!("{until:x}.{}", hex(&chance));
        let cookie = format!("{begin}.{}", self.sign("session", &begin));
        let csrf = self.sign("csrf", &begin);
        (cookie, csrf)
    }

    /// The token of the session of a cookie; `None` if it is none of ours, or over.
    pub fn session(&self, cookie: &str, now: u64) -> Option<String> {
        let (begin, signature) = cookie.rsplit_once('.')?;
        if !Self::same(&self.sign("session", begin), signature) {
            return None;
        }
        let (until, _) = begin.split_once('.')?;
        let until = u64::from_str_radix(until, 16).ok()?;
        (now < until).then(|| self.sign("csrf", begin))
    }

    fn sign(&self, what: &str, text: &str) -> String {
        let Ok(mut mac) = Blake2bMac512::new_from_slice(&self.0) else {
            // a key of 32 bytes is one
            return String::new();
        };
        mac.update(what.as_bytes());
        mac.update(b" ");
        mac.update(text.as_bytes());
        hex(mac.finalize_fixed().get(..32).unwrap_or_default())
    }

    /// Compares in a time that tells nothing but the lengths.
    pub fn same(one: &str, other: &str) -> bool {
        bool::from(one.as_bytes().ct_eq(other.as_bytes()))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // writing to a text does not fail
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn passwords_plain_and_hashed() {
        let hashed = hash("open sesame").unwrap();
        assert!(hashed.starts_with("$argon2id$v=19$m=19456,"), "{hashed}");
        for kept in ["open sesame\n", &format!("{hashed}\n")] {
            let credentials = Credentials::of(Some(kept), "").unwrap();
            assert!(credentials.is_password("open sesame"));
            assert!(!credentials.is_password("open sesam"));
            assert!(!credentials.is_password(&hashed));
        }
        for bad in ["", "a\nb", "$argon2id$nonsense"] {
            assert!(Credentials::of(Some(bad), "").is_err(), "{bad}");
        }
    }

    #[test]
    fn sessions_end() {
        let one = Credentials::of(Some("one"), "").unwrap();
        let (cookie, csrf) = one.key().issue(100, [1; 16]);
        assert_eq!(one.key().session(&cookie, 99), Some(csrf));
        assert_eq!(one.key().session(&cookie, 100), None);
        let again = Credentials::of(Some("one\n"), "").unwrap();
        assert!(again.key().session(&cookie, 99).is_some());
        let other = Credentials::of(Some("two"), "").unwrap();
        assert_eq!(other.key().session(&cookie, 99), None);
        let later = cookie.replacen("64.", "65.", 1);
        assert_ne!(later, cookie);
        for bad in [&later[..], "", ".", "64.00.", &cookie[1..]] {
            assert_eq!(one.key().session(bad, 99), None, "{bad}");
        }
    }

    #[test]
    fn files_are_for_their_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        std::fs::write(
            &path,
            "# mine\nabcdefghijklmnop\n  qrstuvwxyzabcdef   read-only\n",
        )
        .unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        let error = Credentials::read(None, Some(&path)).unwrap_err();
        assert!(error.contains("chmod 600"), "{error}");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        let credentials = Credentials::read(None, Some(&path)).unwrap();
        assert_eq!(credentials.token("abcdefghijklmnop"), Some(true));
        assert_eq!(credentials.token("qrstuvwxyzabcdef"), Some(false));
        assert_eq!(credentials.token("# mine"), None);
        assert!(!credentials.is_open());
        for (text, want) in [
            ("short", "fewer than 16"),
            ("abcdefghijklmnop x", "only read-only"),
            ("#", "there is none"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Credentials::read(None, Some(&path)).unwrap_err();
            assert!(error.contains(want) && error.contains("tokens"), "{error}");
        }
        let error = Credentials::read(Some(&dir.path().join("none")), None).unwrap_err();
        assert!(error.contains("cannot read"), "{error}");
    }
}
