//! Sends what all asked for, and deals out the answers.

use std::rc::Rc;

use redis::{Pipeline, Value};
use tower::Layer;

use crate::exchange::{Answer, Answers, Either, Exchange, Next, Slot, layer as make, pass};
use crate::redis_pool::coherence::in_one_look;
use crate::redis_pool::{Link, why_unanswered};

use super::Ask;

/// How many commands each slot asked; a slot asks once.
type Counts = [usize; 4];

/// Asks `link` everything that `asks` need, in one trip. Without a link nothing is asked, and every slot stays
/// `Answer::NotAsked`.
pub fn layer<S: Next>(link: Option<Link>, asks: Rc<[Rc<dyn Ask>]>) -> impl Layer<S, Service = impl Next> + Clone {
    make(move |mut exchange: Box<Exchange>, next: S| {
        let Some(link) = &link else { return Either::passed(pass(next, exchange)) };
        let mut pipeline = Pipeline::with_capacity(0);
        let counts = collect(&asks, &mut exchange, &mut pipeline);
        if pipeline.is_empty() {
            return Either::passed(pass(next, exchange));
        }
        let (link, asks) = (link.clone(), asks.clone());
        Either::itself(async move {
            let answer = link.query(&pipeline).await;
            deal(asks.iter().map(|ask| ask.slot()), counts, answer, &mut exchange.answers);
            asks.iter().for_each(|ask| ask.answered(&mut exchange));
            pass(next, exchange).await
        })
    })
}

fn collect(asks: &[Rc<dyn Ask>], exchange: &mut Exchange, pipeline: &mut Pipeline) -> Counts {
    in_one_look(|| {
        let mut counts = Counts::default();
        for ask in asks {
            counts[ask.slot() as usize] = ask.ask(exchange, pipeline);
            if exchange.answers.refused {
                break;
            }
        }
        counts
    })
}

/// Gives each slot that asked its share of the values, in the order of asking, or the reason why there are none.
fn deal(
    slots: impl Iterator<Item = Slot>,
    counts: Counts,
    answer: Result<Vec<Value>, &'static str>,
    answers: &mut Answers,
) {
    let asked = slots.map(|slot| (slot, counts[slot as usize])).filter(|(_, count)| *count > 0);
    match answer {
        Err(reason) => asked.for_each(|(slot, _)| answers.put(slot, Answer::Unavailable(reason))),
        // Too few cannot be; if they are, no slot may read another's.
        Ok(values) if values.len() != counts.iter().sum::<usize>() => {
            asked.for_each(|(slot, _)| answers.put(slot, Answer::Unavailable("protocol")));
        }
        Ok(values) => {
            let mut values = values.into_iter();
            asked.for_each(|(slot, count)| {
                let share: Vec<_> = values.by_ref().take(count).collect();
                // In a cluster what one node cannot answer another may: only who needs all of it goes without.
                let why = share.iter().find_map(why_unanswered);
                answers.put(slot, why.map_or(Answer::Values(share), Answer::Unavailable));
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOTS: [Slot; 3] = [Slot::Session, Slot::Limits, Slot::Cache];
    const COUNTS: Counts = [1, 0, 2, 0];

    fn dealt(answer: Result<Vec<Value>, &'static str>) -> [Answer; 3] {
        let mut answers = Answers::default();
        deal(SLOTS.into_iter(), COUNTS, answer, &mut answers);
        SLOTS.map(|slot| answers.take(slot))
    }

    #[test]
    fn each_slot_gets_the_values_of_its_own_commands_in_the_order_of_asking() {
        let answers = dealt(Ok((1..=3).map(Value::Int).collect()));
        let [Answer::Values(session), Answer::Values(limits), Answer::NotAsked] = answers else {
            panic!("{answers:?}")
        };
        assert_eq!((session, limits), (vec![Value::Int(1), Value::Int(2)], vec![Value::Int(3)]));
    }

    #[test]
    fn when_redis_is_away_only_those_that_asked_are_told() {
        let answers = dealt(Err("down"));
        assert!(
            matches!(answers, [Answer::Unavailable("down"), Answer::Unavailable("down"), Answer::NotAsked]),
            "{answers:?}"
        );
    }

    #[test]
    fn a_number_of_values_that_does_not_fit_is_given_to_nobody() {
        let answers = dealt(Ok(vec![Value::Nil]));
        assert!(matches!(answers[0], Answer::Unavailable("protocol")), "{answers:?}");
    }
}
