//! The sale page: where a buyer sees what is left, holds tickets, and confirms or gives back.
//!
//! The files lie in `page/`. The page is the same for every sale, since it reads the sale from its
//! own address, and it talks to the very interface that any other client has. It is put together
//! once, at the start: script and style are named by their digest, so that a cache may keep them
//! for ever and never mixes two versions; the page itself is kept for a minute. No framework, no
//! cookie, nothing from another origin.

use super::documents::Document;

/// Where its parts lie. No number can stand there, so it is no sale.
const FOLDER: &str = "/sales/assets";

/// The parts of the script, in an order in which each knows those above it.
const SCRIPT: &str = concat!(
    include_str!("page/clock.js"),
    include_str!("page/words.js"),
    include_str!("page/wire.js"),
    include_str!("page/purchase.js"),
    include_str!("page/stock.js"),
    include_str!("page/view.js"),
    include_str!("page/main.js"),
);

/// The page and its parts.
pub(super) fn documents() -> [Document; 4] {
    let javascript = "text/javascript; charset=utf-8";
    let script = Document::named_by_digest(FOLDER, "js", javascript, SCRIPT.as_bytes());
    let css = include_bytes!("page/style.css");
    let style = Document::named_by_digest(FOLDER, "css", "text/css; charset=utf-8", css);
    let svg = include_bytes!("page/icon.svg");
    let icon = Document::named_by_digest(FOLDER, "svg", "image/svg+xml", svg);
    let mut html = include_str!("page/page.html").to_owned();
    for (place, part) in [("{script}", &script), ("{style}", &style), ("{icon}", &icon)] {
        html = html.replace(place, part.path());
    }
    let caching = "public, max-age=60, stale-while-revalidate=60";
    let page = Document::new("/sales/*", "text/html; charset=utf-8", caching, html.into_bytes());
    [page, script, style, icon]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_its_parts_and_nothing_from_elsewhere() {
        let [page, parts @ ..] = documents();
        let html = str::from_utf8(page.body()).expect("the page is text");
        for part in &parts {
            assert_eq!(html.matches(part.path()).count(), 1, "{}", part.path());
        }
        for outside in ["http:", "https:", "{", "style=", "onclick"] {
            assert!(!html.contains(outside), "{outside} is in the page");
        }
    }
}
