//! The thread is told to ask the fencer, and not to.

use super::*;
use crate::cpg::host_fencing::stays::FencedStay;

#[test]
fn nothing_is_asked_until_it_is_told_to_ask_and_after_it_is_told_not_to() {
    let mut bench = Bench::settled();
    bench.link.set_source(HostFencing::None);
    assert_eq!((bench.link.state(), bench.link.answers()), (None, false));
    bench.fake.until("the connections do not end", Script::is_left);
    let (questions, connects) = {
        let script = bench.fake.script();
        (script.questions, script.connects)
    };
    // A fence that nobody watches, and a host that comes.
    bench.fake.fences(1, "off");
    bench.link.hear(&votes(&[1, 2, 3, 4]));
    bench.fake.pause(4 * SETTLE);
    {
        let mut script = bench.fake.script();
        assert_eq!((script.questions, script.connects), (questions, connects));
        script.questions = 0;
    }
    bench.link.set_source(HostFencing::Auto);
    bench.fake.until("the hosts do not settle", |script| script.questions == 6);
    bench.awaits("it does not connect", |state| matches!(state, FencerState::Connected(_)));
    bench.reports_nothing_of_1();
    bench.handle.begin_stop();
    bench.handle.join();
    assert!(bench.link.commands.post(FencerCommand::HostsChanged).is_err(), "it has ended");
}

#[test]
fn an_idle_thread_ends_and_so_does_one_that_rests_after_an_event() {
    let bench = Bench::settled();
    bench.asks_again(1, |fake| fake.fences(1, "off"));
    bench.handle.begin_stop();
    bench.handle.join();
    assert!(bench.link.commands.post(FencerCommand::HostsChanged).is_err(), "it has ended");
    let mut bench = Bench::settled();
    bench.link.set_source(HostFencing::None);
    bench.fake.until("the connections do not end", Script::is_left);
    bench.handle.begin_stop();
    bench.handle.join();
    assert!(bench.link.commands.post(FencerCommand::HostsChanged).is_err(), "it has ended");
}

#[test]
fn a_fence_that_is_known_when_it_is_told_not_to_ask_does_not_count() {
    let mut bench = Bench::settled();
    bench.fake.fences(1, "off");
    let end = Instant::now() + LIMIT;
    while bench.link.news.is_empty() {
        assert!(Instant::now() < end, "no fence is reported");
        bench.fake.pause(Duration::from_millis(2));
    }
    // The link has it already, or not.
    for has_taken in [false, true] {
        if has_taken {
            bench.link.table.fenced(FencedStay {
                node: NodeId(1),
                stay: bench.link.table.stays()[&NodeId(1)],
                at: Instant::now(),
            });
        }
        bench.link.set_source(HostFencing::None);
        bench.loses_1();
        assert_eq!(bench.link.take_fenced(Instant::now()), []);
        bench.link.set_source(HostFencing::Auto);
        assert_eq!(bench.link.take_fenced(Instant::now()), []);
        bench.link.hear(&votes(&[1, 2, 3]));
    }
}
