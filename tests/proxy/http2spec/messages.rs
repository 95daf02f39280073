//! The group `http2`, section 8: requests.

use super::*;

#[test]
fn section_8_requests() {
    let [method, scheme, path, authority] = request("GET", "/");
    let common = [method, scheme, path, authority];
    let with = |more: &[(&str, &str)]| headers(1, END_STREAM, &[&common[..], more].concat());
    let of = |fields: &[(&str, &str)]| headers(1, END_STREAM, fields);
    let length = |length| headers(1, 0, &[&request("POST", "/")[..], &[("content-length", length)]].concat());
    let test = data(1, 0, "test");
    let last = data(1, END_STREAM, "test");
    let promise =
        frame(PUSH_PROMISE, END_HEADERS, 1, [&[0, 0, 0, 3], &crate::harness::hpack::block(&common)[..]].concat());
    pass(vec![
        resets(
            "http2/8.1/1 a second HEADERS without END_STREAM",
            &[post(1), test.clone(), headers(1, 0, &[("x-test", "ok")])],
            PROTOCOL,
        ),
        resets("http2/8.1.2/1 a name in upper case", &[with(&[("X-TEST", "ok")])], PROTOCOL),
        resets("http2/8.1.2.1/1 an unknown pseudo-field", &[with(&[(":test", "ok")])], PROTOCOL),
        resets("http2/8.1.2.1/2 a pseudo-field of answers", &[with(&[(":status", "200")])], PROTOCOL),
        resets(
            "http2/8.1.2.1/3 a pseudo-field as trailer",
            &[post(1), test.clone(), headers(1, 0, &[(":method", "POST")])],
            PROTOCOL,
        ),
        resets(
            "http2/8.1.2.1/4 a pseudo-field after others",
            &[of(&[("x-test", "ok"), method, scheme, path, authority])],
            PROTOCOL,
        ),
        resets("http2/8.1.2.2/1 a connection-specific field", &[with(&[("connection", "keep-alive")])], PROTOCOL),
        resets(
            "http2/8.1.2.2/2 TE other than trailers",
            &[with(&[("trailers", "test"), ("te", "trailers, deflate")])],
            PROTOCOL,
        ),
        resets("http2/8.1.2.3/1 an empty :path", &[of(&[method, scheme, (":path", ""), authority])], PROTOCOL),
        resets("http2/8.1.2.3/2 no :method", &[of(&[scheme, path, authority])], PROTOCOL),
        resets("http2/8.1.2.3/3 no :scheme", &[of(&[method, path, authority])], PROTOCOL),
        resets("http2/8.1.2.3/4 no :path", &[of(&[method, scheme, authority])], PROTOCOL),
        resets("http2/8.1.2.3/5 two :method", &[with(&[method])], PROTOCOL),
        resets("http2/8.1.2.3/6 two :scheme", &[with(&[scheme])], PROTOCOL),
        resets("http2/8.1.2.3/7 two :path", &[with(&[path])], PROTOCOL),
        resets("http2/8.1.2.6/1 less announced than sent", &[length("1"), last.clone()], PROTOCOL),
        resets("http2/8.1.2.6/2 less announced than sent in pieces", &[length("1"), test, last], PROTOCOL),
        ends("http2/8.2/1 PUSH_PROMISE", &[promise], PROTOCOL),
    ]);
}
