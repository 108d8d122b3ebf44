//! What a configuration asks for that this daemon does not do yet: said at the start, never passed over in silence.

use crate::config::Config;

/// One sentence for each such thing.
pub fn warnings(config: &Config) -> Vec<String> {
    let mut all = Vec::new();
    let circus = &config.circus;
    if circus.httpd {
        all.push("[circus] httpd: there is no web console yet".to_string());
    }
    all
}
