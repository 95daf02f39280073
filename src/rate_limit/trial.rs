//! Requests for the tests of this room and of later ones.

use std::cell::RefCell;
use std::rc::Rc;

use http::{Request, Version};

use crate::body::Body;
use crate::clock;
use crate::exchange::{Answers, Client, Connection, Exchange, Scheme};
use crate::telemetry::Record;

/// A request from `address` with these fields.
pub(crate) fn exchange(method: &str, uri: &str, address: &str, fields: &[(&str, &str)]) -> Exchange {
    let request = fields
        .iter()
        .fold(Request::builder().method(method).uri(uri), |request, (name, value)| request.header(*name, *value));
    let request = request.body(Body::empty()).unwrap();
    let record = Record::new(clock::instant(), request.method().clone(), None, Version::HTTP_11);
    Exchange {
        request,
        connection: Rc::new(Connection { peer: None, tls: false, certificate: None, tunnel: RefCell::default() }),
        interim: None,
        client: Client { address: address.parse().unwrap(), trusted: false, scheme: Scheme::Http },
        parameters: Vec::new(),
        answers: Answers::default(),
        plan: None,
        presented: None,
        principal: None,
        posted: None,
        trail: Rc::new(RefCell::new(record)),
    }
}
