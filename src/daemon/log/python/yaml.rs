//! YAML as data.

use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::{Map, Value};

/// The first document of the text.
///
/// # Errors
/// It is no YAML, or what only YAML can say.
pub fn read(text: &str) -> Result<Value, String> {
    let documents = Yaml::load_from_str(text).map_err(|error| error.to_string())?;
    value(documents.first().ok_or("it is empty")?)
}

fn value(yaml: &Yaml<'_>) -> Result<Value, String> {
    Ok(match yaml {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(truth)) => Value::Bool(*truth),
        Yaml::Value(Scalar::Integer(number)) => Value::from(*number),
        Yaml::Value(Scalar::FloatingPoint(number)) => Value::from(number.into_inner()),
        Yaml::Value(Scalar::String(text)) => Value::from(text.as_ref()),
        Yaml::Sequence(list) => Value::from(list.iter().map(value).collect::<Result<Vec<_>, _>>()?),
        Yaml::Mapping(map) => {
            let mut object = Map::new();
            for (key, entry) in map {
                let key = match value(key)? {
                    Value::String(key) => key,
                    other => other.to_string(),
                };
                object.insert(key, value(entry)?);
            }
            Value::Object(object)
        }
        _ => return Err("a value with a tag, or an alias of nothing, is not read".to_string()),
    })
}
