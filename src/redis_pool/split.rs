//! A pipeline in pieces, one for each node of a cluster that serves some of it.
//!
//! 1. The commands of a piece keep their order; between pieces there is none.
//! 2. Each answer goes back to the place of its command.
//! 3. A command that no node could answer has [`unanswered`] for its value, with the reason; the others have theirs.
//!
//! # Why
//! One node of a cluster away takes with it what lies there, and nothing else: a session that another node has is still a
//! session. So the failure of a piece cannot be the failure of the whole pipeline.

use redis::{Cmd, Pipeline, Value};

use super::fault::Fault;

/// The commands that go to one node.
#[derive(Debug)]
pub(super) struct Piece<N> {
    pub(super) node: N,
    pub(super) pipeline: Pipeline,
    /// Of each command the place in the whole, and whether `ASKING` stands before it.
    places: Vec<(usize, bool)>,
}

/// Pieces of one pipeline.
#[derive(Debug)]
pub(super) struct Split<N>(pub(super) Vec<Piece<N>>);

impl<N> Default for Split<N> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<N: PartialEq> Split<N> {
    /// `command`, which stands at `place` in the whole, goes to `node`; `asking`: although the node does not serve it yet.
    pub(super) fn add(&mut self, node: N, command: &Cmd, place: usize, asking: bool) {
        let index = match self.0.iter().position(|piece| piece.node == node) {
            Some(index) => index,
            None => {
                self.0.push(Piece { node, pipeline: Pipeline::new(), places: Vec::new() });
                self.0.len() - 1
            }
        };
        let piece = &mut self.0[index];
        if asking {
            piece.pipeline.cmd("ASKING");
        }
        piece.pipeline.add_command(command.clone());
        piece.places.push((place, asking));
    }
}

impl<N> Piece<N> {
    /// Puts the answers of this piece where they belong in `whole`.
    pub(super) fn give(&self, answer: Result<Vec<Value>, Fault>, whole: &mut [Value]) {
        let values = match answer {
            Ok(values) if values.len() == self.pipeline.len() => values,
            // Too few cannot be; if they are, no command may have another's.
            Ok(_) => return self.fail(Fault::Protocol, whole),
            Err(fault) => return self.fail(fault, whole),
        };
        let mut values = values.into_iter();
        for &(place, asking) in &self.places {
            // What ASKING says is of no interest: if it was refused, so is the command.
            if let Some(value) = values.nth(usize::from(asking)) {
                whole[place] = value;
            }
        }
    }

    fn fail(&self, fault: Fault, whole: &mut [Value]) {
        self.places.iter().for_each(|&(place, _)| whole[place] = unanswered(fault));
    }

    /// Of each command the place in the whole, and whether it asked a node that does not serve it yet.
    pub(super) fn places(&self) -> impl Iterator<Item = (usize, bool)> {
        self.places.iter().copied()
    }
}

/// The code of an error that no Redis sends.
const UNANSWERED: &str = "UNANSWERED";

/// What stands for the answer to a command that none could be had for.
pub(super) fn unanswered(fault: Fault) -> Value {
    let line = format!("-{UNANSWERED} {}\r\n", fault.word());
    redis::parse_redis_value(line.as_bytes()).unwrap_or(Value::Nil)
}

/// The bytes of a text that Redis answered; `None`: it is none.
pub fn text(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.as_bytes()),
        _ => None,
    }
}

/// Why there is no answer, if `value` stands for one that could not be had: a word for logs and metrics. What a Redis
/// itself answered, its errors included, is an answer.
pub fn why_unanswered(value: &Value) -> Option<&'static str> {
    why(value).map(Fault::word)
}

pub(super) fn why(value: &Value) -> Option<Fault> {
    let Value::ServerError(error) = value else { return None };
    let is = |fault: &Fault| error.details() == Some(fault.word());
    (error.code() == UNANSWERED).then(|| Fault::ALL.into_iter().find(is).unwrap_or(Fault::Refused))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(key: &str) -> Cmd {
        redis::cmd("GET").arg(key).to_owned()
    }

    fn names(piece: &Piece<u8>) -> Vec<String> {
        let words = |command: &Cmd| String::from_utf8(command.get_packed_command()).unwrap();
        piece.pipeline.cmd_iter().map(|command| words(command).split("\r\n").last_word()).collect()
    }

    trait LastWord {
        fn last_word(self) -> String;
    }

    impl<'a, I: Iterator<Item = &'a str>> LastWord for I {
        fn last_word(self) -> String {
            self.filter(|word| !word.is_empty()).last().unwrap_or_default().to_owned()
        }
    }

    #[test]
    fn each_node_gets_its_commands_in_order_and_each_answer_its_place() {
        let mut split = Split::default();
        for (place, node) in [1, 2, 1, 3].into_iter().enumerate() {
            split.add(node, &get(&format!("k{place}")), place, node == 3);
        }
        let said: Vec<_> = split.0.iter().map(names).collect();
        assert_eq!(said, [vec!["k0", "k2"], vec!["k1"], vec!["ASKING", "k3"]]);
        let mut whole = vec![Value::Nil; 4];
        split.0[0].give(Ok(vec![Value::Int(0), Value::Int(2)]), &mut whole);
        split.0[1].give(Err(Fault::Down), &mut whole);
        split.0[2].give(Ok(vec![Value::Okay, Value::Int(3)]), &mut whole);
        assert_eq!(whole, [Value::Int(0), unanswered(Fault::Down), Value::Int(2), Value::Int(3)]);
    }

    #[test]
    fn a_number_of_answers_that_does_not_fit_is_given_to_nobody() {
        let mut split = Split::default();
        split.add(1, &get("k"), 0, false);
        let mut whole = vec![Value::Nil];
        split.0[0].give(Ok(vec![]), &mut whole);
        assert_eq!(why_unanswered(&whole[0]), Some("protocol"));
    }

    #[test]
    fn only_what_redis_did_not_say_is_unanswered() {
        for fault in Fault::ALL {
            assert_eq!(why(&unanswered(fault)), Some(fault));
        }
        let refused = redis::parse_redis_value(b"-WRONGTYPE no\r\n").unwrap();
        assert_eq!((why_unanswered(&refused), why_unanswered(&Value::Nil)), (None, None));
    }
}
