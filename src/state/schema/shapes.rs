//! The JSON Schema of a value, from the reader's own description of it.

use serde_json::{Value, json};

use crate::options;
use crate::state::document::shape::{Shape, TRUTHS};

const WHOLE: &str = r"[+-]?[0-9]+(_[0-9]+)*";
const COUNT: &str = r"\+?[0-9]+(_[0-9]+)*";
const FRACTION: &str =
    r"([0-9]+(_[0-9]+)*\.?([0-9]+(_[0-9]+)*)?|\.[0-9]+(_[0-9]+)*)([eE][+-]?[0-9]+(_[0-9]+)*)?";
/// What may be a variable, so that nothing can be said of the text before it is replaced.
const VARIABLE: &str = r"\$\(|\(\(|\$\{socket:";

/// The JSON Schema of a value of this shape, without null.
pub fn of_shape(shape: &Shape) -> Value {
    let texts = |pattern: &str| {
        let pattern = match shape.has_variables() {
            true => format!(r"^\s*({pattern})\s*$|{VARIABLE}"),
            false => format!(r"^\s*({pattern})\s*$"),
        };
        json!({"type": "string", "pattern": pattern})
    };
    let any = |first: Value, second: Value| json!({"anyOf": [first, second]});
    match shape {
        Shape::Whole(low, high) => {
            let pattern = if *low < 0 { WHOLE } else { COUNT };
            let number = json!({"type": "integer", "minimum": low, "maximum": high});
            any(number, texts(pattern))
        }
        Shape::Limit => any(
            json!({"type": "integer", "minimum": -1, "maximum": i64::MAX}),
            texts(&format!("(-0*[01]|{COUNT})?")),
        ),
        Shape::Seconds => any(
            json!({"type": "number", "minimum": 0}),
            texts(&format!(r"\+?{FRACTION}")),
        ),
        Shape::Number => any(
            json!({"type": "number"}),
            texts(&format!(r"[+-]?{FRACTION}")),
        ),
        Shape::Truth => json!({"anyOf": [
            {"type": "boolean"},
            {"type": "integer", "enum": [0, 1]},
            texts(&any_case(&TRUTHS)),
        ]}),
        Shape::Text => json!({"type": ["string", "number"]}),
        Shape::Filled => json!({"type": "string", "pattern": r"\S"}),
        Shape::Endpoint => texts(r"([a-z]+://[\s\S]+)?"),
        Shape::Words => any(
            json!({"type": "string"}),
            json!({"type": "array", "items": {"type": ["string", "number"]}}),
        ),
        Shape::Account => any(
            json!({"type": "integer", "minimum": 0, "maximum": u32::MAX - 1}),
            json!({"type": "string", "pattern": r"^\s*(?!-[0-9]+\s*$)\S"}),
        ),
        Shape::Signal => {
            let names = any_case(&options::signal_names());
            let realtime = r"[rR][tT][mM][iI][nN]\+0*([0-9]|[12][0-9]|30)";
            let number = r"\+?0*([1-9]|[1-5][0-9]|6[0-4])";
            any(
                json!({"type": "integer", "minimum": 1, "maximum": 64}),
                texts(&format!("{number}|([sS][iI][gG])?({names}|{realtime})")),
            )
        }
        Shape::Hook => {
            let flags = any_case(&TRUTHS);
            any(
                texts(&format!(r"[^,]*[^,\s][^,]*(,\s*({flags}))?")),
                json!({
                    "type": "object",
                    "properties": {
                        "call": {"type": "string", "pattern": r"^[^,]*[^,\s][^,]*$"},
                        "ignore_failure": {"type": "boolean"},
                    },
                    "required": ["call"],
                    "additionalProperties": false,
                }),
            )
        }
        Shape::Octal => texts("(0o)?[0-7]{1,5}"),
        Shape::OneOf(words) => any(json!({"enum": words}), texts(&any_case(words))),
        Shape::Scalar => json!({"type": ["string", "number", "boolean"]}),
    }
}

/// A pattern of these words in any case.
fn any_case(words: &[&str]) -> String {
    let letters = |word: &&str| -> String {
        word.chars()
            .map(|c| match (c.to_ascii_lowercase(), c.to_ascii_uppercase()) {
                (low, up) if low != up => format!("[{low}{up}]"),
                (same, _) => same.to_string(),
            })
            .collect()
    };
    words.iter().map(letters).collect::<Vec<_>>().join("|")
}
