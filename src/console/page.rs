//! The files of the page, which are part of the program: nothing is loaded from elsewhere.

/// A file of the page.
pub struct File {
    /// Its path in a URL.
    pub path: &'static str,
    /// Its type.
    pub kind: &'static str,
    /// Its bytes.
    pub bytes: &'static [u8],
}

/// One of the page's files, by its name.
macro_rules! file {
    ($name:literal, $kind:expr) => {
        File {
            path: concat!("/assets/", $name),
            kind: $kind,
            bytes: include_bytes!(concat!("page/", $name)),
        }
    };
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Every file.
pub static FILES: &[File] = &[
    File {
        path: "/",
        kind: "text/html; charset=utf-8",
        bytes: include_bytes!("page/index.html"),
    },
    file!("page.css", "text/css; charset=utf-8"),
    file!("icon.svg", "image/svg+xml"),
    file!("acts.js", SCRIPT),
    file!("api.js", SCRIPT),
    file!("chart.js", SCRIPT),
    file!("dialogs.js", SCRIPT),
    file!("diff.js", SCRIPT),
    file!("dom.js", SCRIPT),
    file!("feed.js", SCRIPT),
    file!("format.js", SCRIPT),
    file!("login.js", SCRIPT),
    file!("main.js", SCRIPT),
    file!("overview.js", SCRIPT),
    file!("store.js", SCRIPT),
    file!("watcher.js", SCRIPT),
];

/// The file of a path.
pub fn find(path: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.path == path)
}
