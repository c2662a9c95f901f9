//! The files of the dashboard, which the binary contains. The dashboard is a page of plain JavaScript modules that uses only the
//! HTTP API; `page/app.js` is its start.

use std::sync::LazyLock;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

/// A file of the dashboard.
#[derive(Debug)]
pub(crate) struct PageFile {
    pub(crate) name: &'static str,
    pub(crate) content_type: &'static str,
    pub(crate) content: &'static str,
    /// The header `ETag`: a part of the content's hash, so a browser notices a new version of Drover.
    pub(crate) etag: String,
}

/// The name of the start page, which `/` serves.
pub(crate) const START_PAGE: &str = "start.html";
/// The name of the page that `/dashboard` serves.
pub(crate) const DASHBOARD_PAGE: &str = "dashboard.html";

/// Returns the file with this name in `page/`.
pub(crate) fn find_file(name: &str) -> Option<&'static PageFile> {
    FILES.iter().find(|file| file.name == name)
}

macro_rules! page_files {
    ($($name:literal)*) => {
        [$(new_page_file($name, include_str!(concat!("page/", $name)))),*]
    };
}

static FILES: LazyLock<[PageFile; 21]> = LazyLock::new(|| {
    page_files![
        "start.html" "dashboard.html" "style.css" "icon.svg"
        "app.js" "api.js" "dom.js" "format.js" "json.js" "table.js"
        "queues.js" "queue.js" "messages.js" "message.js" "actions.js" "post.js" "schedules.js" "schedule-form.js"
        "signals.js" "events.js" "settings.js"
    ]
});

fn new_page_file(name: &'static str, content: &'static str) -> PageFile {
    let content_type = match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/javascript; charset=utf-8",
    };
    let etag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(&Sha256::digest(content)[..12]));
    PageFile { name, content_type, content, etag }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    /// The maximum total size of the dashboard's files in bytes; a browser loads all of them at first.
    const MAX_TOTAL_BYTES: usize = 150 * 1_000;

    #[test]
    fn every_file_of_the_folder_is_served_and_all_together_are_small() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/dashboard/page");
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let served_names: BTreeSet<String> = FILES.iter().map(|file| file.name.to_owned()).collect();
        assert_eq!(names.collect::<BTreeSet<_>>(), served_names);
        let bytes: usize = FILES.iter().map(|file| file.content.len()).sum();
        assert!(bytes < MAX_TOTAL_BYTES, "{bytes} bytes");
    }

    #[test]
    fn files_are_loaded_only_from_this_server_and_write_text_only_as_text() {
        for file in FILES.iter() {
            // The test removes the name of the SVG namespace, the only URL that a file may contain.
            let content = file.content.replace("http://www.w3.org/2000/svg", "");
            let forbidden_texts = [
                "://",
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "style=\"",
                "<style",
                "onclick",
            ];
            for text in forbidden_texts {
                assert!(!content.contains(text), "{} contains {text}", file.name);
            }
            assert!(!content.contains("<script>"), "{} has an inline script", file.name);
            for import in content.split("from \"./").skip(1) {
                let name = import.split('"').next().unwrap();
                assert!(find_file(name).is_some(), "{} imports {name}, which does not exist", file.name);
            }
        }
    }
}
