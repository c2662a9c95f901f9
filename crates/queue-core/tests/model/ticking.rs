//! Ticks in the model: a process computes plans from what it knows, and the queue carries out the plans that are still valid.

use std::iter::successors;

use serde_json::{Value, json};

use crate::{
    message::{Draft, Instant, MessageNumber},
    model::Model,
    schedules::{Missed, Overlap, PostedBy, Schedule, ScheduleKey, revision_name, schedule_name},
};

/// The age (ms) from which even the newest due tick is missed.
pub(crate) const CURRENT_TICK_AGE_MS: u64 = 10_000;
/// The maximum number of missed ticks that are posted.
const MAX_MISSED_TICKS: usize = 1_000;

/// A call with which a process posts due ticks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tick {
    pub(crate) process: u8,
    pub(crate) knowledge: ScheduleKnowledge,
    /// How far (ms) the process's estimate of Redis's clock is ahead.
    pub(crate) ahead: i64,
    /// The maximum number of messages that one call posts for each schedule.
    pub(crate) max_posts: usize,
}

/// How a process knows the schedules when it posts due ticks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum ScheduleKnowledge {
    /// The process has just read the schedules.
    Fresh,
    /// The process knows the schedules as it read them for an earlier tick.
    Old,
}

/// A plan for the due ticks of a schedule.
struct Plan {
    key: ScheduleKey,
    revision: usize,
    known: Instant,
    newest: Instant,
    valid_until: Option<Instant>,
    posts: Vec<Instant>,
    next: Option<Instant>,
}

/// The outcome of a plan for due ticks: the posted messages, the tick that the queue refused, and the number of ticks
/// that were left out.
struct Outcome {
    posted: Vec<(Instant, MessageNumber)>,
    refused: Option<Instant>,
    left_out: usize,
}

impl Plan {
    /// Returns the plan for the due ticks of a schedule; `None` if no tick is due.
    fn of(key: ScheduleKey, schedule: &Schedule, now: Instant, max_posts: usize) -> Option<Self> {
        let definition = &schedule.definition;
        let known_tick = schedule.next?;
        let ticks = successors(Some(known_tick), |tick| definition.next_after(*tick));
        let mut due_ticks: Vec<Instant> = ticks.take_while(|tick| *tick <= now).collect();
        let mut newest_tick = *due_ticks.last()?;
        let mut next_tick = definition.next_after(newest_tick);
        let is_current = newest_tick + CURRENT_TICK_AGE_MS > now;
        let mut valid_until = is_current.then_some(newest_tick + CURRENT_TICK_AGE_MS);
        let current_tick = is_current.then(|| due_ticks.pop()).flatten();
        let dropped_count = match definition.missed {
            Missed::Skip => due_ticks.len(),
            Missed::One => due_ticks.len().saturating_sub(1),
            Missed::All => due_ticks.len().saturating_sub(MAX_MISSED_TICKS - usize::from(is_current)),
        };
        let mut ticks_to_post: Vec<Instant> = due_ticks.into_iter().skip(dropped_count).chain(current_tick).collect();
        if definition.overlap == Overlap::Skip {
            ticks_to_post = ticks_to_post.last().copied().into_iter().collect();
        }
        if ticks_to_post.len() > max_posts {
            // The ticks that are not posted stay due, so the next tick is the first of them.
            next_tick = Some(ticks_to_post[max_posts]);
            ticks_to_post.truncate(max_posts);
            newest_tick = *ticks_to_post.last()?;
            valid_until = None;
        }
        Some(Self {
            key,
            revision: schedule.revision,
            known: known_tick,
            newest: newest_tick,
            valid_until,
            posts: ticks_to_post,
            next: next_tick,
        })
    }
}

impl Model {
    /// A process reads all schedules. If the queue has no schedules, its name is removed from the index of queues with
    /// schedules.
    pub(crate) fn read_schedules(&mut self, process: u8) {
        self.known_schedules.insert(process, self.schedules.clone());
        self.is_listed_with_schedules &= !self.schedules.is_empty();
    }

    /// The current instant by the clock of a process that is `ahead` ms ahead of Redis's clock.
    pub(crate) fn now_of_process(&self, ahead: i64) -> Instant {
        self.now().saturating_add_signed(ahead)
    }

    /// Plans the due ticks of all schedules that a process knows, posts the planned messages, and returns the outcome
    /// of each schedule's plan.
    pub(crate) fn tick(&mut self, tick: &Tick) -> Value {
        let now = self.now_of_process(tick.ahead);
        let known_schedules = self.known_schedules.get(&tick.process).cloned().unwrap_or_default();
        let plans = known_schedules.iter().filter_map(|(key, schedule)| Plan::of(*key, schedule, now, tick.max_posts));
        let first_new_number = self.posted;
        let answer = plans.map(|plan| {
            let plan_outcome = self.is_plan_valid(&plan).then(|| self.carry_out_plan(&plan));
            let schedule = self.schedules.get(&plan.key);
            json!({
                "schedule": schedule_name(plan.key),
                "posted": plan_outcome.as_ref().map(|outcome| outcome.posted.len()),
                "left_out": plan_outcome.map_or(0, |outcome| outcome.left_out),
                "revision": schedule.map_or(String::new(), |schedule| revision_name(schedule.revision)),
                "next": schedule.and_then(|schedule| schedule.next),
            })
        });
        let answer = answer.collect();
        self.log_enqueued(first_new_number..self.posted);
        answer
    }

    fn is_plan_valid(&self, plan: &Plan) -> bool {
        let is_as_known = |schedule: &Schedule| schedule.revision == plan.revision && schedule.next == Some(plan.known);
        let is_due = self.now() >= plan.newest && plan.valid_until.is_none_or(|until| self.now() < until);
        is_due && self.schedules.get(&plan.key).is_some_and(is_as_known)
    }

    fn carry_out_plan(&mut self, plan: &Plan) -> Outcome {
        let schedule = &self.schedules[&plan.key];
        let (definition, runs) = (schedule.definition.clone(), schedule.runs);
        let has_unfinished_message = schedule.last.is_some_and(|(_, last)| self.is_unfinished(last));
        let mut outcome = Outcome { posted: vec![], refused: None, left_out: 0 };
        for at in plan.posts.iter().copied() {
            if definition.overlap == Overlap::Skip && has_unfinished_message {
                outcome.left_out += 1;
            } else if definition.max_runs.is_some_and(|max| runs + outcome.posted.len() as u64 >= max) {
                break;
            } else if let Some(number) =
                self.post_tick(&definition.message, PostedBy { schedule: plan.key, at, data: definition.data })
            {
                outcome.posted.push((at, number));
            } else {
                outcome.refused = Some(at);
                break;
            }
        }
        let schedule = self.schedules.get_mut(&plan.key).expect("the schedule exists");
        schedule.runs += outcome.posted.len() as u64;
        schedule.last = outcome.posted.last().copied().or(schedule.last);
        schedule.next = outcome.refused.or(plan.next).filter(|_| !schedule.has_ended());
        outcome
    }

    /// Stores the message of a tick; `None` if the queue refuses it.
    fn post_tick(&mut self, message: &Draft, by: PostedBy) -> Option<MessageNumber> {
        let draft = Draft { posted_by: Some(by), ..message.clone() };
        let unfinished_count = self.messages.values().filter(|message| message.is_unfinished()).count();
        if self.settings.max_length.is_some_and(|max| unfinished_count >= max) {
            return None;
        }
        self.count("scheduled");
        Some(self.store_new(&draft))
    }
}
