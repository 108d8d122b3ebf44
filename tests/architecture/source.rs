//! Just enough reading of Rust source to know which paths a file names: words, without comments and literals.

/// A path that a file names, with `super` and `self` resolved: `["crate", "wire", "client"]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathUse {
    pub words: Vec<String>,
    pub line: usize,
}

/// A source text as tokens.
#[derive(Debug)]
pub struct Source {
    tokens: Vec<Token>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    /// A word, `::`, or one character of punctuation.
    text: String,
    line: usize,
}

impl Token {
    fn is_word(&self) -> bool {
        self.text
            .starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

impl Source {
    /// Reads a source text; comments, strings and characters are left out.
    pub fn parse(text: &str) -> Self {
        let chars: Vec<char> = text.chars().collect();
        let mut tokens = Vec::new();
        let (mut at, mut line) = (0, 1);
        while at < chars.len() {
            let start = at;
            match skipped(&chars, at) {
                Some(end) => at = end,
                None if chars[at].is_alphabetic() || chars[at] == '_' => {
                    while at < chars.len() && (chars[at].is_alphanumeric() || chars[at] == '_') {
                        at += 1;
                    }
                    tokens.push(Token {
                        text: chars[start..at].iter().collect(),
                        line,
                    });
                }
                None if chars[at..].starts_with(&[':', ':']) => {
                    tokens.push(Token {
                        text: "::".to_string(),
                        line,
                    });
                    at += 2;
                }
                None => {
                    if !chars[at].is_whitespace() {
                        tokens.push(Token {
                            text: chars[at].to_string(),
                            line,
                        });
                    }
                    at += 1;
                }
            }
            line += chars[start..at].iter().filter(|c| **c == '\n').count();
        }
        Self { tokens }
    }

    /// The lines on which a word stands.
    pub fn word_lines<'a>(&'a self, word: &'a str) -> impl Iterator<Item = usize> + 'a {
        self.tokens
            .iter()
            .filter(move |t| t.text == word)
            .map(|t| t.line)
    }

    /// Every method call's name and line.
    pub fn methods(&self) -> impl Iterator<Item = (&str, usize)> {
        self.tokens
            .windows(3)
            .filter(|w| w[0].text == "." && w[2].text == "(")
            .map(|w| (w[1].text.as_str(), w[1].line))
    }

    /// Every path the file names: `use` trees taken apart, and paths inside code. `module` is the file's own path.
    pub fn paths(&self, module: &[String]) -> Vec<PathUse> {
        let mut found = Vec::new();
        // Inline modules deepen `super`: remember at which brace depth each began.
        let mut inline: Vec<(usize, String)> = Vec::new();
        let (mut depth, mut at) = (0, 0);
        while at < self.tokens.len() {
            let text = self.tokens[at].text.as_str();
            match text {
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    inline.retain(|(d, _)| *d < depth + 1 && *d != depth);
                }
                "mod" if self.text(at + 2) == "{" => {
                    inline.push((depth, self.text(at + 1).to_string()))
                }
                _ => {}
            }
            let continues = at > 0 && matches!(self.text(at - 1), "::" | ".");
            if self.tokens[at].is_word() && !continues {
                let here: Vec<String> = module
                    .iter()
                    .cloned()
                    .chain(inline.iter().map(|(_, n)| n.clone()))
                    .collect();
                if text == "use" {
                    at = self.tree(at + 1, &[], &here, &mut found);
                    continue;
                }
                if self.text(at + 1) == "::" {
                    at = self.tree(at, &[], &here, &mut found);
                    continue;
                }
            }
            at += 1;
        }
        found
    }

    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |t| t.text.as_str())
    }

    /// Reads one path or `use` tree at `at` and returns where it ends.
    fn tree(
        &self,
        mut at: usize,
        before: &[String],
        here: &[String],
        found: &mut Vec<PathUse>,
    ) -> usize {
        let mut words = before.to_vec();
        let line = self.tokens.get(at).map_or(0, |t| t.line);
        loop {
            if self.text(at) == "::" {
                at += 1;
            }
            match self.text(at) {
                "{" => {
                    at += 1;
                    while !matches!(self.text(at), "}" | "") {
                        at = self.tree(at, &words, here, found);
                        if self.text(at) == "," {
                            at += 1;
                        }
                    }
                    return at + 1;
                }
                "*" => {
                    words.push("*".to_string());
                    at += 1;
                    break;
                }
                // A turbofish or something else that ends the path.
                _ if !self.tokens.get(at).is_some_and(Token::is_word) => break,
                word => words.push(word.to_string()),
            }
            at += 1;
            if self.text(at) != "::" {
                break;
            }
        }
        if self.text(at) == "as" {
            at += 2;
        }
        // Always go forward, whatever stands there.
        let end = at.max(1);
        found.push(PathUse {
            words: resolved(words, here),
            line,
        });
        end
    }
}

/// A path with `self` and `super` at its beginning written out from the crate's root.
fn resolved(words: Vec<String>, here: &[String]) -> Vec<String> {
    let relative = words
        .iter()
        .take_while(|w| matches!(w.as_str(), "self" | "super"))
        .count();
    if relative == 0 {
        return words;
    }
    let ups = words[..relative].iter().filter(|w| *w == "super").count();
    let base = &here[..here.len().saturating_sub(ups)];
    let mut full = vec!["crate".to_string()];
    full.extend(base.iter().cloned());
    full.extend(words[relative..].iter().cloned());
    full
}

/// If a comment or a literal begins at `at`: where it ends.
fn skipped(chars: &[char], at: usize) -> Option<usize> {
    let rest = &chars[at..];
    let find = |from: usize, what: &[char]| {
        (from..chars.len())
            .find(|i| chars[*i..].starts_with(what))
            .map_or(chars.len(), |i| i + what.len())
    };
    if rest.starts_with(&['/', '/']) {
        return Some(find(at, &['\n']));
    }
    if rest.starts_with(&['/', '*']) {
        return Some(block_comment(chars, at));
    }
    if rest.first() == Some(&'"') {
        return Some(string(chars, at));
    }
    let previous_is_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    if !previous_is_word && matches!(rest.first(), Some('r' | 'b' | 'c')) {
        let letters = rest
            .iter()
            .take_while(|c| matches!(c, 'r' | 'b' | 'c'))
            .count();
        let hashes = rest[letters..].iter().take_while(|c| **c == '#').count();
        if rest.get(letters + hashes) == Some(&'"') {
            if rest[..letters].contains(&'r') {
                let mut close = vec!['"'];
                close.extend(std::iter::repeat_n('#', hashes));
                return Some(find(at + letters + hashes + 1, &close));
            }
            return (hashes == 0).then(|| string(chars, at + letters));
        }
    }
    // A character, not a lifetime: 'x' or '\…'.
    if rest.first() == Some(&'\'') {
        if rest.get(1) == Some(&'\\') {
            return Some(find(at + 3, &['\'']));
        }
        if rest.get(2) == Some(&'\'') {
            return Some(at + 3);
        }
    }
    None
}

fn block_comment(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < chars.len() {
        if chars[at..].starts_with(&['/', '*']) {
            depth += 1;
            at += 2;
        } else if chars[at..].starts_with(&['*', '/']) {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

fn string(chars: &[char], mut at: usize) -> usize {
    at += 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}
