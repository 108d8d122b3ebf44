//! The schedule's single rules, each by itself.

use super::*;

fn schedule() -> Schedule {
    let rules = Rules {
        splay: 0,
        ..Rules::default()
    };
    Schedule::new(rules, 1)
}

fn order(at: u64, about: &str) -> Input {
    Input::Heard(News {
        at: Time(at),
        about: about.into(),
        order: true,
    })
}

fn runs(effects: &[Effect]) -> Vec<&Order> {
    let orders = effects.iter().filter_map(|effect| match effect {
        Effect::Run(order) => Some(order),
        _ => None,
    });
    orders.collect()
}

fn trigger(effects: &[Effect]) -> Option<Trigger> {
    runs(effects).first().map(|order| order.trigger)
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| name.to_string()).collect()
}

fn repaired(names: &[&str]) -> Input {
    Input::Ended(Outcome {
        repaired: set(names),
        ..Outcome::default()
    })
}

fn failed(names: &[&str]) -> Input {
    Input::Ended(Outcome {
        failed: true,
        troubled: set(names),
        ..Outcome::default()
    })
}

fn fine() -> Input {
    Input::Ended(Outcome::default())
}

/// A schedule whose first run has ended at 1000, with nothing found.
fn at_rest() -> Schedule {
    let mut schedule = schedule();
    assert_eq!(
        trigger(&schedule.step(Time(0), Input::Start)),
        Some(Trigger::Start)
    );
    assert_eq!(schedule.step(Time(1_000), fine()), []);
    schedule
}

/// The time and the trigger of the next run if nothing happens.
fn next(schedule: &mut Schedule) -> (u64, Trigger) {
    loop {
        let wake = schedule.next_wake().expect("something to wait for");
        if let Some(trigger) = trigger(&schedule.step(wake, Input::Wake)) {
            return (wake.0, trigger);
        }
    }
}

#[test]
fn runs_follow_each_other_at_the_interval() {
    let mut schedule = at_rest();
    assert_eq!(next(&mut schedule), (61_000, Trigger::Interval));
    schedule.step(Time(62_000), fine());
    assert_eq!(next(&mut schedule), (122_000, Trigger::Interval));
    let mut spread = Schedule::new(Rules::default(), 7);
    spread.step(Time(0), Input::Start);
    spread.step(Time(0), fine());
    let (at, _) = next(&mut spread);
    assert!((60_000..=70_000).contains(&at) && at != 60_000, "{at}");
}

#[test]
fn a_burst_of_events_is_one_run_soon() {
    let mut schedule = at_rest();
    for at in [20_000, 20_050, 20_090] {
        assert_eq!(schedule.step(Time(at), order(at, "web")), []);
    }
    assert_eq!(next(&mut schedule), (20_190, Trigger::Event));
    schedule.step(Time(21_000), fine());
    // A burst without an end does not put it off for long.
    for at in (30_000..30_400).step_by(50) {
        assert_eq!(schedule.step(Time(at), order(at, "web")), []);
    }
    assert_eq!(next(&mut schedule), (30_400, Trigger::Event));
}

#[test]
fn a_repair_is_looked_at_once_more_and_only_once() {
    let mut schedule = at_rest();
    schedule.step(Time(20_000), order(20_000, "web"));
    assert_eq!(next(&mut schedule), (20_100, Trigger::Event));
    // What the repair itself causes, heard during the run …
    schedule.step(Time(20_150), order(20_150, "web"));
    let effects = schedule.step(Time(21_200), repaired(&["web"]));
    assert_eq!(trigger(&effects), Some(Trigger::Event));
    // … and what of it is heard late.
    schedule.step(Time(21_210), order(20_160, "web"));
    schedule.step(Time(21_300), fine());
    assert_eq!(next(&mut schedule), (81_300, Trigger::Interval));
}

#[test]
fn failures_are_repeated_at_growing_distances() {
    let mut schedule = at_rest();
    let (mut now, _) = next(&mut schedule);
    let mut last = 0;
    for step in 0..16 {
        schedule.step(Time(now), failed(&["web"]));
        let (at, trigger) = next(&mut schedule);
        let pause = at - now;
        let plain = (1_000_u64 << step).min(300_000);
        assert_eq!(trigger, Trigger::Retry);
        assert!(
            (plain * 3 / 4..=plain * 5 / 4).contains(&pause),
            "step {step}: {pause}"
        );
        assert!(pause > last || plain == 300_000);
        (now, last) = (at, pause);
    }
    assert_eq!(schedule.failures(), 16);
    schedule.step(Time(now), fine());
    assert_eq!(schedule.failures(), 0);
    assert_eq!(next(&mut schedule), (now + 60_000, Trigger::Interval));
    schedule.step(Time(now + 60_000), failed(&[]));
    let (at, _) = next(&mut schedule);
    assert!(at - now - 60_000 <= 1_250, "the pause begins anew: {at}");
}

#[test]
fn a_failing_watcher_does_not_keep_the_others_waiting() {
    let mut schedule = at_rest();
    schedule.step(Time(61_000), Input::Wake);
    for _ in 0..9 {
        schedule.step(Time(61_000), failed(&["broken"]));
        schedule.step(Time(61_000), Input::Connected);
        next(&mut schedule);
    }
    schedule.step(Time(70_000), failed(&["broken"]));
    for at in [70_500, 71_000, 72_000] {
        assert_eq!(schedule.step(Time(at), order(at, "broken")), []);
    }
    schedule.step(Time(73_000), order(73_000, "web"));
    let (at, trigger) = next(&mut schedule);
    assert_eq!(trigger, Trigger::Event);
    assert!(at <= 74_000, "{at}");
}

#[test]
fn nothing_runs_while_paused_and_one_run_follows() {
    let mut schedule = at_rest();
    schedule.step(Time(2_000), Input::Pause(Some(Time(1_800_000))));
    schedule.step(Time(3_000), order(3_000, "web"));
    schedule.step(Time(4_000), Input::Desired);
    assert_eq!(
        schedule.step(Time(5_000), Input::RunNow(9)),
        [Effect::Refuse(9, Refusal::Paused(Some(Time(1_800_000))))]
    );
    assert_eq!(schedule.step(Time(100_000), Input::Wake), []);
    assert_eq!(next(&mut schedule), (1_800_000, Trigger::File));
    schedule.step(Time(1_800_100), Input::Pause(None));
    schedule.step(Time(1_801_000), fine());
    assert_eq!(schedule.next_wake(), None);
    let effects = schedule.step(Time(9_000_000), Input::Resume);
    assert_eq!(trigger(&effects), Some(Trigger::Resume));
}

#[test]
fn who_waits_for_a_run_is_answered_by_one_that_began_afterwards() {
    let mut schedule = schedule();
    schedule.step(Time(0), Input::Start);
    assert_eq!(schedule.step(Time(10), Input::RunNow(1)), []);
    assert_eq!(schedule.step(Time(11), Input::RunNow(2)), []);
    let effects = schedule.step(Time(500), fine());
    assert_eq!(trigger(&effects), Some(Trigger::RunNow));
    assert_eq!(effects.len(), 1);
    assert_eq!(
        schedule.step(Time(600), fine()),
        [Effect::Answer(1), Effect::Answer(2)]
    );
}

#[test]
fn windows_hold_back() {
    let mut schedule = at_rest();
    schedule.step(Time(2_000), Input::Hold(Hold::Audit));
    let effects = schedule.step(Time(3_000), Input::RunNow(1));
    assert_eq!(runs(&effects)[0].mode, Mode::Audit);
    schedule.step(Time(4_000), fine());
    schedule.step(Time(5_000), Input::Hold(Hold::Off));
    assert_eq!(
        schedule.step(Time(5_100), Input::RunNow(2)),
        [Effect::Refuse(2, Refusal::Window)]
    );
    schedule.step(Time(5_200), order(5_200, "web"));
    assert_eq!(schedule.next_wake(), None);
    let effects = schedule.step(Time(6_000), Input::Hold(Hold::Free));
    assert_eq!(trigger(&effects), Some(Trigger::Window));
    assert_eq!(runs(&effects)[0].mode, Mode::Enforce);
}

/// Somebody undoes each repair of web a second later; other is repaired once a minute, which is no fight.
fn fought(schedule: &mut Schedule, from: u64) -> (u64, Effect) {
    let mut now = from;
    for _ in 0..20 {
        schedule.step(Time(now), order(now, "web"));
        let (at, _) = next(schedule);
        let effects = schedule.step(Time(at + 50), repaired(&["web"]));
        now = at + 1_050;
        if let Some(fight) = effects
            .into_iter()
            .find(|e| matches!(e, Effect::Fight { .. }))
        {
            return (at + 50, fight);
        }
    }
    panic!("no fight was seen");
}

#[test]
fn a_fight_is_seen_and_left() {
    let mut schedule = at_rest();
    let (begun, fight) = fought(&mut schedule, 2_000);
    let until = Time(begun + 60_000);
    assert_eq!(
        fight,
        Effect::Fight {
            name: "web".into(),
            repairs: 5,
            until
        }
    );
    assert_eq!((schedule.fought(), schedule.failures()), (1, 0));
    // Others are still looked after; web is not.
    schedule.step(Time(begun + 1_000), order(begun + 1_000, "web"));
    schedule.step(Time(begun + 2_000), order(begun + 2_000, "other"));
    let wake = schedule.next_wake().expect("the event");
    let effects = schedule.step(wake, Input::Wake);
    assert!(wake.0 < begun + 3_000);
    assert_eq!(runs(&effects)[0].leave, set(&["web"]));
    schedule.step(wake.after(100), repaired(&["other"]));
    // Then it is tried again, and the next time is longer.
    let (at, trigger) = next(&mut schedule);
    assert_eq!((at, trigger), (until.0, Trigger::Retry));
    schedule.step(Time(at + 50), repaired(&["web"]));
    let (begun, fight) = fought(&mut schedule, at + 1_000);
    assert!(
        matches!(fight, Effect::Fight { until, .. } if until == Time(begun + 120_000)),
        "{fight:?}"
    );
    // A person who asks for a run means it.
    let effects = schedule.step(Time(begun + 500), Input::RunNow(3));
    assert_eq!(runs(&effects)[0].leave, set(&[]));
}

#[test]
fn repairs_that_are_asked_for_are_no_fight() {
    let mut schedule = at_rest();
    for at in (2_000..22_000).step_by(1_000) {
        let effects = schedule.step(Time(at), Input::Desired);
        assert_eq!(trigger(&effects), Some(Trigger::File));
        assert_eq!(schedule.step(Time(at + 500), repaired(&["web"])), []);
    }
    assert_eq!(schedule.fought(), 0);
}

#[test]
fn the_end_waits_for_the_run_under_way() {
    let mut schedule = at_rest();
    schedule.step(Time(2_000), Input::RunNow(1));
    schedule.step(Time(2_100), Input::RunNow(2));
    assert_eq!(
        schedule.step(Time(2_200), Input::Stop),
        [Effect::Refuse(2, Refusal::Stopping)]
    );
    assert_eq!(
        schedule.step(Time(2_300), fine()),
        [Effect::Answer(1), Effect::Exit]
    );
    assert_eq!(schedule.next_wake(), None);
    let mut idle = at_rest();
    assert_eq!(idle.step(Time(2_000), Input::Stop), [Effect::Exit]);
}

#[test]
fn a_restless_daemon_is_asked_less_often_but_orders_are_heeded() {
    let mut schedule = at_rest();
    let (mut now, mut looks) = (2_000, 0);
    while now < 302_000 {
        let news = News {
            at: Time(now),
            about: "flapping".into(),
            order: false,
        };
        looks += runs(&schedule.step(Time(now), Input::Heard(news))).len();
        if schedule.is_running() {
            schedule.step(Time(now + 20), fine());
        }
        now += 200;
    }
    assert!((5..40).contains(&looks), "{looks}");
    if runs(&schedule.step(Time(now), order(now, "web"))).is_empty() {
        let (at, _) = next(&mut schedule);
        assert!(at - now <= 500, "{}", at - now);
    }
}
