//! The request of one event as people read it: method, url and body, without secrets, bounded. It sends nothing.

use std::panic::AssertUnwindSafe;

use fanout_sdk::destination::{Clock, Destination, Item};
use fanout_sdk::preview::preview;

/// The longest text: bytes.
const MOST: usize = 4096;

/// The requests for this item alone, as the destination would make them now; `None` if it makes none.
pub fn shown(destination: &dyn Destination, item: Item, clock: &dyn Clock) -> Option<String> {
    // A fault of the adapter's is met here again where the first one made the dead letter.
    let requests = std::panic::catch_unwind(AssertUnwindSafe(|| {
        preview(destination, &[item], Vec::new(), clock, false)
    }));
    let mut text = String::new();
    for request in requests.unwrap_or_default() {
        if !text.is_empty() {
            text.push('\n');
        }
        let body = destination.mask(&String::from_utf8_lossy(&request.body));
        text.push_str(&format!("{} {}\n", request.method, request.url));
        if !body.is_empty() {
            text.push_str(&body);
            text.push('\n');
        }
        if text.len() > MOST {
            text.truncate(text.floor_char_boundary(MOST));
            break;
        }
    }
    (!text.is_empty()).then_some(text)
}
