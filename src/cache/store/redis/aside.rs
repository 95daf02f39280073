//! Entries that a replica sends while the master is asked about their place.
//!
//! 1. The generation is put there and read at the master, as ever. Of each entry the master says how it begins, its seal
//!    ([`SEAL`]); the replica is asked for the whole of it at the same time.
//! 2. What the replica says counts only if it begins as the master says: then it is what the master has. What the master
//!    does not have is not there.
//! 3. Where it begins otherwise (the replica is behind) or is refused (`MOVED`, `LOADING`), the master is asked for the
//!    whole, in a second trip; then there is no third.
//! 4. A replica that says nothing within the time-out, or is lost meanwhile: nothing is found, for the request has waited as
//!    long as it may. Its breaker knows by then; while it is open the next requests are given another replica, or go to
//!    the master alone.
//! 5. Where the master has nothing nobody waits for the replica.
//!
//! # Why seals, when the generation is the master's
//! The generation alone keeps what was invalidated from being reused. But an entry that was deleted by hand, or replaced
//! after a reload that the client forced, would stand a little longer in a replica, and what is read there after its news
//! was heard would be remembered near. With the seal an entry of a replica is the master's own of that moment: neither the
//! proof of the store nor the near tier needs a word about replicas.

use redis::{Pipeline, Value};

use super::RedisStore;
use crate::cache::stored::SEAL;
use crate::exchange::Aside;
use crate::redis_pool::Replica;

/// The entries of one look-up, in the order of asking.
#[derive(Default)]
pub(super) struct Whole {
    pub(super) values: Vec<Value>,
    /// It took a second trip.
    pub(super) late: bool,
}

/// Asks `replica` for `entries`, and adds to `pipeline` what asks the master for their seals; says how many commands.
pub(super) fn ask(replica: Replica, entries: impl Iterator<Item = String>, pipeline: &mut Pipeline) -> (Aside, usize) {
    let (mut question, mut count) = (Pipeline::new(), 0);
    question.cmd("MGET");
    for entry in entries {
        pipeline.cmd("GETRANGE").arg(&entry).arg(0).arg(SEAL - 1);
        question.arg(entry);
        count += 1;
    }
    let asking = async move {
        let said = replica.query(&question).await;
        (question, said)
    };
    (tokio::task::spawn_local(asking), count)
}

impl RedisStore {
    /// What stands under the entries whose `seals` the master has said.
    ///
    /// # Errors
    /// A word that says why the master could not be asked again.
    pub(super) async fn whole(&self, seals: Vec<Value>, aside: Aside) -> Result<Whole, &'static str> {
        if seals.iter().all(is_of_nothing) {
            return Ok(Whole::default());
        }
        let Ok((question, Ok(mut said))) = aside.await else { return Ok(Whole::default()) };
        if let Some(Value::Array(values)) = said.pop()
            && let Some(values) = sealed(&seals, values)
        {
            return Ok(Whole { values, late: false });
        }
        let values = match self.link.query(&question).await?.pop() {
            Some(Value::Array(values)) => values,
            _ => Vec::new(),
        };
        Ok(Whole { values, late: true })
    }
}

/// The replica's `values`, without what the master does not have; `None`: one is not what the master has.
fn sealed(seals: &[Value], values: Vec<Value>) -> Option<Vec<Value>> {
    if values.len() != seals.len() {
        return None;
    }
    let of_master = |(seal, value): (&Value, Value)| match (seal, &value) {
        (seal, _) if is_of_nothing(seal) => Some(Value::Nil),
        (Value::BulkString(seal), Value::BulkString(whole)) if whole.starts_with(seal) => Some(value),
        _ => None,
    };
    seals.iter().zip(values).map(of_master).collect()
}

/// What GETRANGE says of a key that is not there.
fn is_of_nothing(seal: &Value) -> bool {
    matches!(seal, Value::BulkString(seal) if seal.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn what_a_replica_says_counts_only_where_the_master_says_the_same() {
        let refused = redis::parse_redis_value(b"-NOPERM no\r\n").unwrap();
        for (seal, value, counts) in [
            (text("seal"), text("seal and all"), Some(text("seal and all"))),
            (text("seal"), text("another"), None),
            (text("seal"), Value::Nil, None),
            (text(""), text("seal and all"), Some(Value::Nil)),
            (text(""), Value::Nil, Some(Value::Nil)),
            (refused, text("seal and all"), None),
        ] {
            assert_eq!(
                sealed(std::slice::from_ref(&seal), vec![value.clone()]),
                counts.map(|value| vec![value]),
                "{seal:?} {value:?}"
            );
        }
        assert_eq!(sealed(&[text("a"), text("b")], vec![text("a")]), None);
    }
}
