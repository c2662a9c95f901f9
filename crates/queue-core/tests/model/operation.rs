//! The operations on a queue, and their random choice. An operation names a message or lease by its position among the existing
//! ones, so that it stays valid when proptest removes earlier operations.

use proptest::{collection::vec, option, prelude::*, sample::select};

use crate::{
    changing::{MessageChange, random_message_change},
    leasing::Request,
    message::{Draft, Due},
    model_json::STATES,
    schedules::ScheduleKey,
    scheduling::{ScheduleChange, random_schedule_change, random_tick},
    settings::{Backoff, Change, Keep, RateLimit},
    settling::LeaseAction,
    ticking::Tick,
};

/// The times (ms) that a client waits for a message to finish. A client's wait uses the real clock, so it does not end during a
/// test.
const LONG_WAITS: [u64; 2] = [60_000, 90_000];

#[derive(Debug, Clone)]
pub(crate) enum Operation {
    Post(Vec<Draft>),
    /// A post with an idempotency key and a fingerprint.
    PostOnce(u8, u8, Vec<Draft>),
    Lease(Request),
    /// A lease call whose answer is lost.
    LeaseAndLoseAnswer(Request),
    ReturnLostLeases,
    Settle(Vec<(LeaseChoice, LeaseAction)>),
    Extend(Vec<LeaseChoice>, Option<u64>),
    UndoLeases(Vec<LeaseChoice>),
    Report(LeaseChoice),
    ChangeMessage(MessageChange, MessageChoice),
    ChangeSchedule(ScheduleKey, ScheduleChange),
    /// A process posts the due ticks of schedules.
    Tick(Tick),
    RetryFailed,
    Purge(&'static str),
    /// A purge of waiting messages. The process that purges dies after the first step of the purge.
    InterruptPurge,
    Pause,
    Resume,
    Configure(Change),
    /// A signal: its key, whether it has data, and for how long it is sticky.
    Signal(u8, bool, Option<u64>),
    WaitFor(MessageChoice, u64),
    /// A client listens to events.
    Listen,
    Maintain,
    EndOwnership(u8),
    /// A consumer dies, and its tokens are lost.
    Crash(u8),
    /// The process restarts.
    Restart,
    Delete,
    /// The process that deletes or creates the queue dies before it changes the index: the index lacks the queue's name.
    LoseName,
    /// The process of the test adds the names of the queues that it has used to the index of queue names.
    RestoreUsedNames,
    /// A scan of all keys adds missing names to the index.
    RestoreAllNames,
    MoveClock(ClockStep),
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum LeaseChoice {
    /// The n-th live lease.
    Live(usize),
    /// The n-th of all known leases, the newest first.
    Any(usize),
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct MessageChoice {
    /// The state of the message that the operation chooses. If no message is in this state, the operation chooses a
    /// message of any state.
    pub(crate) state: Option<&'static str>,
    pub(crate) nth: usize,
    /// Whether the operation names its message by the own id that the producer chose, if there is one.
    pub(crate) by_own_id: bool,
}

/// How the clock moves.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ClockStep {
    Micros(u64),
    /// Redis's clock steps back.
    Back(u64),
    /// The clock moves to the next instant at which maintenance or a tick is due, a due tick is missed, or a window or the owner's timeout ends.
    ToNext,
    /// The clock moves to the microsecond before the instant of `ToNext`.
    AlmostToNext,
}

/// A random list of operations, which begins with a few changes of settings.
pub(crate) fn random_operations() -> impl Strategy<Value = Vec<Operation>> {
    let settings = vec(random_setting_change().prop_map(Operation::Configure), 0..4);
    (settings, vec(random_operation(), 1..80)).prop_map(|(settings, rest)| settings.into_iter().chain(rest).collect())
}

fn random_operation() -> impl Strategy<Value = Operation> {
    let few_drafts = || vec(random_new_message(), 1..5);
    prop_oneof![
        10 => few_drafts().prop_map(Operation::Post),
        3 => random_keyed_post(),
        14 => random_lease_request().prop_map(Operation::Lease),
        1 => random_lease_request().prop_map(Operation::LeaseAndLoseAnswer),
        1 => Just(Operation::ReturnLostLeases),
        12 => vec((random_lease_choice(), random_lease_action()), 1..4).prop_map(Operation::Settle),
        3 => (vec(random_lease_choice(), 1..4), option::of(random_duration())).prop_map(|(leases, time)| Operation::Extend(leases, time)),
        3 => vec(random_lease_choice(), 1..4).prop_map(Operation::UndoLeases),
        2 => random_lease_choice().prop_map(Operation::Report),
        14 => random_change_of_message(),
        7 => random_schedule_change().prop_map(|(key, change)| Operation::ChangeSchedule(key, change)),
        8 => random_tick().prop_map(Operation::Tick),
        1 => Just(Operation::RetryFailed),
        2 => select(STATES.to_vec()).prop_map(Operation::Purge),
        2 => Just(Operation::InterruptPurge),
        1 => Just(Operation::Pause),
        2 => Just(Operation::Resume),
        5 => random_setting_change().prop_map(Operation::Configure),
        6 => (0..2_u8, any::<bool>(), option::of(random_duration())).prop_map(|(key, data, time)| Operation::Signal(key, data, time)),
        2 => (random_message_choice(any_state()), select(LONG_WAITS.to_vec())).prop_map(|(choice, time)| Operation::WaitFor(choice, time)),
        4 => Just(Operation::Listen),
        4 => Just(Operation::Maintain),
        2 => (0..3_u8).prop_map(Operation::EndOwnership),
        1 => (0..3_u8).prop_map(Operation::Crash),
        1 => Just(Operation::Restart),
        1 => Just(Operation::Delete),
        1 => Just(Operation::LoseName),
        1 => Just(Operation::RestoreUsedNames),
        1 => Just(Operation::RestoreAllNames),
        14 => random_clock_step().prop_map(Operation::MoveClock),
    ]
}

/// A post with an idempotency key. Requests with different numbers of messages have different fingerprints.
fn random_keyed_post() -> impl Strategy<Value = Operation> {
    (0..3_u8, 0..2_u8).prop_flat_map(|(key, fingerprint)| {
        vec(random_new_message(), 1 + 2 * usize::from(fingerprint))
            .prop_map(move |drafts| Operation::PostOnce(key, fingerprint, drafts))
    })
}

/// A random duration (ms) from a short list, so that instants often coincide.
fn random_duration() -> impl Strategy<Value = u64> {
    select(vec![1, 100, 200, 300, 500, 1_000, 2_000, 5_000])
}

fn random_clock_step() -> impl Strategy<Value = ClockStep> {
    prop_oneof![
        4 => (0..3_000_u64).prop_map(ClockStep::Micros),
        4 => random_duration().prop_map(|millis| ClockStep::Micros(millis * 1_000)),
        1 => (1..120_u64).prop_map(|seconds| ClockStep::Micros(seconds * 1_000_000)),
        6 => Just(ClockStep::ToNext),
        // The clock moves by the time (µs) for which events are logged after the last listener, or by a millisecond less.
        1 => select(vec![659_999_000, 660_000_000]).prop_map(ClockStep::Micros),
        1 => Just(ClockStep::AlmostToNext),
        1 => select(vec![1_000, 400_000, 3_000_000, 3_600_000_000]).prop_map(ClockStep::Back),
    ]
}

pub(crate) fn random_new_message() -> impl Strategy<Value = Draft> {
    let due = prop_oneof![
        6 => Just(Due::Now),
        2 => random_duration().prop_map(Due::After),
        1 => Just(Due::After(0)),
        1 => random_duration().prop_map(Due::AtFuture),
        1 => random_duration().prop_map(Due::AtPast),
    ];
    let rarely_some = |strategy: BoxedStrategy<u64>| option::weighted(0.15, strategy);
    let priority = prop_oneof![4 => Just(0), 1 => -2..3_i64];
    (
        (due, any::<bool>(), option::weighted(0.2, 0..4_u8), priority),
        (option::weighted(0.15, 1..4_u32), option::weighted(0.1, random_backoff())),
        (
            rarely_some(random_duration().boxed()),
            rarely_some(random_duration().boxed()),
            option::weighted(0.2, 0..2_u8),
        ),
        option::weighted(0.4, 0..3_u8),
    )
        .prop_map(|((due, named, own_id, priority), (max_attempts, backoff), (timeout, ttl, hold), group)| Draft {
            due,
            named,
            own_id,
            priority,
            max_attempts,
            backoff,
            timeout,
            ttl,
            hold,
            group,
            posted_by: None,
        })
}

fn random_backoff() -> impl Strategy<Value = Backoff> {
    let delay = prop_oneof![1 => Just(0), 3 => random_duration()];
    (any::<bool>(), delay, random_duration()).prop_map(|(doubles, delay, more)| Backoff {
        doubles,
        delay,
        max: delay + more,
    })
}

fn random_lease_request() -> impl Strategy<Value = Request> {
    (0..3_u8, 1..6_usize, option::weighted(0.4, random_duration()), prop::bool::weighted(0.2)).prop_map(
        |(consumer, max, visibility_timeout, without_owner_timeout)| Request {
            consumer,
            max,
            visibility_timeout,
            without_owner_timeout,
        },
    )
}

fn random_lease_choice() -> impl Strategy<Value = LeaseChoice> {
    prop_oneof![
        4 => (0..6_usize).prop_map(LeaseChoice::Live),
        1 => (0..12_usize).prop_map(LeaseChoice::Any),
    ]
}

fn any_state() -> BoxedStrategy<&'static str> {
    select(STATES.to_vec()).boxed()
}

fn random_change_of_message() -> impl Strategy<Value = Operation> {
    random_message_change().prop_flat_map(|(what, state)| {
        random_choice_in_state(state).prop_map(move |choice| Operation::ChangeMessage(what.clone(), choice))
    })
}

fn random_message_choice(states: BoxedStrategy<&'static str>) -> impl Strategy<Value = MessageChoice> {
    option::weighted(0.8, states).prop_flat_map(random_choice_in_state)
}

fn random_choice_in_state(state: Option<&'static str>) -> impl Strategy<Value = MessageChoice> {
    (0..8_usize, any::<bool>()).prop_map(move |(nth, by_own_id)| MessageChoice { state, nth, by_own_id })
}

fn random_lease_action() -> impl Strategy<Value = LeaseAction> {
    let pause = || prop_oneof![1 => Just(0), 3 => random_duration()];
    prop_oneof![
        5 => Just(LeaseAction::Complete),
        4 => Just(LeaseAction::Fail),
        1 => pause().prop_map(LeaseAction::FailWithPause),
        2 => Just(LeaseAction::FailForGood),
        2 => Just(LeaseAction::Release),
        1 => pause().prop_map(LeaseAction::ReleaseWithPause),
        4 => (0..2_u8).prop_map(LeaseAction::Hold),
    ]
}

fn random_setting_change() -> impl Strategy<Value = Change> {
    let random_limit =
        (1..5_usize, select(vec![1, 50, 500, 999])).prop_map(|(max, duration)| RateLimit { max, duration });
    let random_retention = || {
        (0..4_usize, select(vec![0, 200, 1_000]), select(vec![0, 1_000, 5_000]))
            .prop_map(|(count, min_age, more)| Keep { age: min_age + more, count, min_age })
    };
    let at_least = |min: u64| random_duration().prop_map(move |millis| millis.max(min));
    prop_oneof![
        1 => option::of(at_least(100)).prop_map(Change::VisibilityTimeout),
        1 => option::of(1..4_u32).prop_map(Change::MaxAttempts),
        1 => random_backoff().prop_map(Change::Backoff),
        1 => option::of(1..4_u32).prop_map(Change::MaxLapses),
        3 => option::weighted(0.7, random_limit).prop_map(Change::RateLimit),
        2 => option::weighted(0.5, 1..4_usize).prop_map(Change::Exclusive),
        2 => option::of(1..4_usize).prop_map(Change::GroupConcurrency),
        1 => Just(Change::NoGroupConcurrency),
        1 => option::of(random_duration()).prop_map(Change::Timeout),
        1 => option::of(at_least(1_000)).prop_map(Change::IdempotencyWindow),
        2 => option::of(select(vec![0, 500, 2_000])).prop_map(Change::IdWindow),
        1 => option::of(1..12_usize).prop_map(Change::MaxLength),
        2 => option::of(random_retention()).prop_map(Change::Completed),
        2 => option::of(random_retention()).prop_map(Change::Failed),
    ]
}
