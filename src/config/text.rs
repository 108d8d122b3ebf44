//! A typed value as the text that circus.ini holds for it.

use serde_json::Value;

use super::shlex;

/// The text of a value, so that reading it gives the value again: `True` and `False`, plain numbers, a list as shell
/// words. `None` for null, which a file says by leaving the key out.
///
/// # Errors
/// A mapping, or a list of other things than texts and numbers: circus.ini has no single text for these.
pub fn ini_text(value: &Value) -> Result<Option<String>, String> {
    Ok(Some(match value {
        Value::Null => return Ok(None),
        Value::Bool(true) => "True".to_string(),
        Value::Bool(false) => "False".to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let words = items
                .iter()
                .map(|item| match item {
                    Value::String(text) => Ok(shlex::quote(text).to_string()),
                    Value::Number(number) => Ok(number.to_string()),
                    _ => Err(format!(
                        "{item} cannot stand in a list of words: text is expected"
                    )),
                })
                .collect::<Result<Vec<String>, String>>()?;
            words.join(" ")
        }
        Value::Object(_) => {
            return Err("a mapping has no single text in circus.ini".to_string());
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_become_what_a_file_says() {
        for (value, text) in [
            (json!(true), "True"),
            (json!(4), "4"),
            (json!(1.5), "1.5"),
            (json!("a b"), "a b"),
            (json!(["a b", "c", 1]), "'a b' c 1"),
            (json!([]), ""),
        ] {
            assert_eq!(ini_text(&value), Ok(Some(text.to_string())), "{value}");
        }
        assert_eq!(ini_text(&Value::Null), Ok(None));
        assert!(ini_text(&json!({})).is_err());
        assert!(ini_text(&json!([[1]])).is_err());
    }
}
