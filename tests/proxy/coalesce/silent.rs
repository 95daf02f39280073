//! An app that takes requests, and never answers.

use crate::harness::{Configuration, Origin};

use super::{asking, coalesced, in_flight, is_collapsed, pages};

#[test]
fn who_has_waited_for_a_silent_app_does_not_wait_again() {
    let app = Origin::scripted(|wire| {
        wire.head()?;
        wire.wait_for_end()
    });
    let silence = "timeouts = { first_byte = \"4s\" }\nretries = { most = 0 }\n";
    let sidegate = Configuration::of(&app).upstream(silence).with(&pages("")).start();
    let mut clients = [(); 4].map(|()| asking(&sidegate, "/silent"));
    in_flight(&sidegate, 4);
    let answers = clients.each_mut().map(|client| client.answer());
    assert_eq!(answers.each_ref().map(|answer| answer.status), [504; 4]);
    assert_eq!(app.count(), 1, "the three that waited ask nobody");
    assert_eq!(answers.iter().filter(|answer| is_collapsed(answer)).count(), 3);
    assert_eq!((coalesced(&sidegate, "shared"), coalesced(&sidegate, "parted")), (3.0, 0.0));
}
