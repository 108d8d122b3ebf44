//! A screen of a terminal as a picture: what `tmux capture-pane -e` gives, as SVG.

use std::fmt::Write;

/// Points of a character.
const WIDTH: f64 = 8.4;
const HEIGHT: f64 = 18.0;
const MARGIN: f64 = 12.0;

/// The sixteen colours of a dark terminal.
const COLOURS: [&str; 16] = [
    "#1d2433", "#f07178", "#7fd88f", "#e5c07b", "#61afef", "#c792ea", "#56c8d8", "#d7dae0",
    "#69758c", "#ff8b92", "#a5e6b0", "#ffd98e", "#8cc8ff", "#ddb6ff", "#8fe3ef", "#ffffff",
];
const PAPER: &str = "#161b26";
const INK: &str = "#d7dae0";

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Style {
    colour: Option<usize>,
    bold: bool,
    dim: bool,
    underlined: bool,
    reversed: bool,
}

impl Style {
    /// Takes the numbers of a sequence `ESC [ … m`.
    fn take(&mut self, codes: &str) {
        let mut numbers = codes.split(';').map(|code| code.parse().unwrap_or(0));
        while let Some(number) = numbers.next() {
            match number {
                0 => *self = Style::default(),
                1 => self.bold = true,
                2 => self.dim = true,
                4 => self.underlined = true,
                7 => self.reversed = true,
                22 => (self.bold, self.dim) = (false, false),
                24 => self.underlined = false,
                27 => self.reversed = false,
                30..=37 => self.colour = Some(number - 30),
                90..=97 => self.colour = Some(number - 82),
                38 => {
                    // only the short palette is used
                    let kind = numbers.next();
                    self.colour = numbers.next().filter(|at| kind == Some(5) && *at < 16);
                }
                39 => self.colour = None,
                _ => {}
            }
        }
    }
}

/// The picture of a screen.
pub fn picture(painted: &str, columns: u16) -> String {
    let lines: Vec<&str> = painted.trim_end().lines().collect();
    let width = f64::from(columns) * WIDTH + 2.0 * MARGIN;
    let height = lines.len() as f64 * HEIGHT + 2.0 * MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         height=\"{height:.0}\" font-family=\"ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace\" \
         font-size=\"14\">\n<rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{PAPER}\"/>\n"
    );
    // a style goes on over the end of a line
    let mut style = Style::default();
    for (row, line) in lines.iter().enumerate() {
        let mut column = 0;
        for (at, piece) in line.split("\x1b[").enumerate() {
            let text = match (at, piece.split_once('m')) {
                (0, _) => piece,
                (_, Some((codes, text))) => {
                    style.take(codes);
                    text
                }
                (_, None) => "",
            };
            let length = text.chars().count();
            draw(&mut svg, style, text, column, row);
            column += length;
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw(svg: &mut String, style: Style, text: &str, column: usize, row: usize) {
    let length = text.chars().count() as f64 * WIDTH;
    let (x, y) = (MARGIN + column as f64 * WIDTH, MARGIN + row as f64 * HEIGHT);
    let ink = style.colour.map_or(INK, |at| COLOURS[at]);
    if style.reversed && length > 0.0 {
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"{HEIGHT}\" fill=\"{ink}\"/>"
        );
    }
    if text.trim().is_empty() {
        return;
    }
    let mut more = String::new();
    if style.bold {
        more.push_str(" font-weight=\"bold\"");
    }
    if style.dim {
        more.push_str(" opacity=\"0.6\"");
    }
    if style.underlined {
        more.push_str(" text-decoration=\"underline\"");
    }
    let ink = if style.reversed { PAPER } else { ink };
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{:.1}\" textLength=\"{length:.1}\" fill=\"{ink}\" xml:space=\"preserve\"{more}>{text}</text>",
        y + 13.5
    );
}

#[test]
fn a_screen_becomes_a_picture() {
    let svg = picture(
        "\x1b[1mA<\x1b[0m b\n\x1b[38;5;1mred\x1b[39m \x1b[7mturned\x1b[0m\n\n",
        10,
    );
    let texts: Vec<&str> = svg
        .lines()
        .filter(|line| line.starts_with("<text"))
        .collect();
    assert_eq!(texts.len(), 4, "{svg}");
    assert!(
        texts[0].contains("bold") && texts[0].ends_with(">A&lt;</text>"),
        "{svg}"
    );
    assert!(texts[2].contains("#f07178"), "{svg}");
    assert!(texts[3].contains(PAPER), "{svg}");
    assert!(svg.contains("width=\"108\" height=\"60\""), "{svg}");
}
