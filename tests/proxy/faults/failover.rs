//! A master that is lost, or gives its slots away, in the midst of traffic.

use crate::harness::Origin;
use crate::harness::redis::{RedisCluster, RedisServer, Sentinels};

use super::policy::{Hits, POLICIES, RECORD, SESSION};
use super::seen::Phase;
use super::under::{self, RECOVERY, Under};

/// What those see who meet a master that is gone: or a cluster that has noticed; or a replica that is none yet.
const KINDS: [&str; 7] =
    ["disconnected", "unreachable", "timeout", "clusterdown", "uncovered", "readonly", "masterdown"];

/// Gives alice a session, and waits until a replica has it.
fn log_in(master: &RedisServer) {
    let mut connection = master.client().get_connection().expect("a connection");
    let mut pipeline = redis::pipe();
    pipeline.cmd("SET").arg(SESSION).arg(RECORD).ignore().cmd("WAIT").arg(1).arg(10_000);
    let [copies]: [u64; 1] = pipeline.query(&mut connection).expect("a session");
    assert_eq!(copies, 1);
}

fn start(app: &Origin, url: &str) -> [Under; 3] {
    let all = POLICIES.map(|policy| Under::start(policy, app, url));
    all.iter().for_each(|under| under.wait_until_well(10 * RECOVERY));
    wait_for_more(&all);
    all
}

fn wait_for_more(all: &[Under]) {
    all.iter().for_each(|under| under.load.wait_for_more(60));
}

fn enter(all: &mut [Under], phase: Phase) {
    all.iter_mut().for_each(|under| under.enter(phase));
    wait_for_more(all);
}

/// There is a master again: two seconds later all is well.
fn judge(mut all: [Under; 3]) {
    all.iter_mut().for_each(|under| under.enter(Phase::After));
    all.iter().for_each(|under| under.wait_until_well(RECOVERY));
    wait_for_more(&all);
    all.into_iter().for_each(|under| under.judge(Hits::Moments, &KINDS, 3));
}

#[test]
fn a_cluster_gives_a_slot_away_and_loses_a_master() {
    let (app, mut cluster) = (under::app(), RedisCluster::start());
    let from = cluster.master_of(SESSION);
    log_in(&cluster.nodes()[from]);
    let mut all = start(&app, &cluster.url());

    let (slot, to) = (cluster.slot(SESSION), (from + 1) % 3);
    cluster.begin_move(slot, from, to);
    wait_for_more(&all);
    cluster.finish_move(slot, from, to);
    wait_for_more(&all);
    all.iter().for_each(|under| under.wait_until_well(RECOVERY));
    cluster.wait_until_well();

    enter(&mut all, Phase::Struck);
    cluster.node(to).kill();
    enter(&mut all, Phase::Lasting);
    cluster.wait_for_other_master(SESSION, to);
    judge(all);
}

#[test]
fn sentinels_name_another_master() {
    let (app, mut sentinels) = (under::app(), Sentinels::start());
    log_in(&sentinels.servers()[0]);
    let mut all = start(&app, &sentinels.url());
    enter(&mut all, Phase::Struck);
    sentinels.server(0).kill();
    enter(&mut all, Phase::Lasting);
    sentinels.wait_for_other_master(0);
    judge(all);
}
