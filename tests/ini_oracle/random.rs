//! Seeded chance, and nasty ini files made of it.

/// A small generator (xorshift64*): the same seed gives the same files everywhere.
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        number as usize % limit
    }

    pub fn one_in(&mut self, limit: usize) -> bool {
        self.below(limit) == 0
    }

    pub fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    /// A few of these texts joined.
    pub fn some(&mut self, from: &[&str], most: usize) -> String {
        (0..self.below(most + 1)).map(|_| self.pick(from)).collect()
    }
}

const SPACES: &[&str] = &[
    "", "", "", " ", " ", "  ", "\t", "\u{a0}", "\u{1c}", "\u{85}", "\u{2028}", "\u{b}", "\u{3000}",
];
const SECTIONS: &[&str] = &[
    "a",
    "b",
    "watcher:a",
    "watcher:b",
    "socket:a",
    "DEFAULT",
    "default",
    " a ",
    "a]b",
    "é",
    "#",
    "circus",
];
const KEYS: &[&str] = &[
    "k",
    "k",
    "K",
    "cmd",
    "a.b",
    "rem",
    "rem x",
    "__name__",
    "",
    "é",
    "two words",
    "[x",
    "k]",
    "\"k\"",
    "'",
];
const VALUES: &[&str] = &[
    "v",
    "1",
    "a b",
    "a;b",
    "a ; b",
    "a\t;b",
    ";",
    "; ",
    ";;",
    " ;x",
    "\"\"",
    "\"\" ; c",
    "\"\"x",
    "",
    "=",
    "a=b",
    "a:b",
    "#x",
    "a #x",
    "[a]",
    "$(circus.env.X)",
    "é",
    "\u{a0};x",
    "x\u{1c};y",
    "\\",
    "%(k)s",
    "x;y ;z",
];
const BREAKS: &[&str] = &["\n", "\n", "\n", "\n", "\r\n", "\r\n", "\r", "\n\n"];
const CHARACTERS: &[&str] = &[
    "[", "]", "=", ":", "#", ";", "\"", " ", " ", "\t", "\r", "\n", "\n", "a", "b", "r", "rem ",
    "\u{a0}", "\u{1d}", "\u{2029}", "é", "\u{feff}", "[a]\n", "k=",
];

/// A file: mostly lines of the format, sometimes plain noise.
pub fn file(chance: &mut Chance) -> Vec<u8> {
    if chance.one_in(8) {
        let start = chance.pick(&["[a]\n", "[a]\nk=", ""]);
        return format!("{start}{}", chance.some(CHARACTERS, 40)).into_bytes();
    }
    let mut text = String::new();
    if chance.one_in(60) {
        text.push('\u{feff}');
    }
    if !chance.one_in(25) {
        // Most files start with what may stand before a header.
        text += chance.pick(&["", "", "# c\n", "\n", "; c\r\n", "rem c\n", " \n"]);
        text += &format!("[{}]\n", chance.pick(SECTIONS));
    }
    for _ in 0..chance.below(14) {
        text += &line(chance);
        text += chance.pick(BREAKS);
    }
    if chance.one_in(3) {
        let kept = text.trim_end_matches(['\n', '\r']).len();
        text.truncate(kept);
    }
    let mut bytes = text.into_bytes();
    if chance.one_in(80) {
        let at = chance.below(bytes.len() + 1);
        bytes.insert(at, 0xff);
    }
    bytes
}

fn line(chance: &mut Chance) -> String {
    match chance.below(40) {
        0..=4 => format!(
            "[{}]{}",
            chance.pick(SECTIONS),
            chance.pick(&["", "", " ", " ; c", "]", " # ]", "x = y"])
        ),
        5..=20 => format!(
            "{}{}{}{}{}{}",
            chance.pick(KEYS),
            chance.pick(SPACES),
            chance.pick(&["=", "=", "=", ":", "==", ":="]),
            chance.pick(SPACES),
            chance.pick(VALUES),
            chance.pick(&["", "", " ", "\t", " ; note", ";note", "\u{a0}"]),
        ),
        21..=28 => format!(
            "{}{}",
            chance.pick(&[" ", "\t", "    ", "\u{a0}", "\u{1f}"]),
            chance.some(VALUES, 2)
        ),
        29..=31 => chance
            .pick(&["", " ", "\t", "\u{a0}", "\u{85}", "\u{1c}"])
            .to_owned(),
        32..=35 => format!(
            "{}{}",
            chance.pick(&["#", ";", "# ", ";k=v", "rem", "REM ", "Rem\t", "#[x]"]),
            chance.pick(VALUES)
        ),
        36..=38 => format!(
            "{}{}={}",
            chance.pick(&["", " ", "remark ", "r", "rem\u{a0}"]),
            chance.pick(KEYS),
            chance.pick(VALUES)
        ),
        _ if chance.one_in(4) => chance
            .pick(&["nonsense", "[", "[]", "]", "\u{feff}", "[a", "  x"])
            .to_owned(),
        _ => String::new(),
    }
}

/// A value for an edit, from plain to impossible.
pub fn value(chance: &mut Chance) -> String {
    match chance.below(6) {
        0 | 1 => chance.pick(PLAIN_VALUES).to_owned(),
        2 => format!("{}\n{}", chance.pick(PLAIN_VALUES), chance.pick(VALUES)),
        3 => format!("\n{}", chance.pick(PLAIN_VALUES)),
        _ => chance.some(VALUES, 3),
    }
}

/// Values that every file can hold.
pub const PLAIN_VALUES: &[&str] = &[
    "",
    "4",
    "sleep 10",
    "x=y:z",
    "a;b",
    "# not a comment",
    "[no header]",
    "$(circus.wid)",
    "é",
];

/// A key for an edit, from plain to impossible.
pub fn key(chance: &mut Chance) -> String {
    match chance.below(3) {
        0 => chance.pick(&["new", "numprocesses", "x.y"]).to_owned(),
        1 => chance.pick(KEYS).to_owned(),
        _ => chance.pick(&["k", "cmd"]).to_owned(),
    }
}

/// A section for an edit.
pub fn section(chance: &mut Chance) -> String {
    chance.pick(SECTIONS).to_owned()
}
