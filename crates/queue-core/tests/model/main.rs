//! Random operations run on a real queue and on a model of it in memory, under a clock that the test sets. After each step the
//! test compares every answer, message, list, schedule and event of the queue with those of the model. At the end no key of a
//! message or schedule may be left. If queue and model differ, proptest shrinks the operations to a few.
//!
//! `DROVER_MODEL_STEPS` sets the number of steps, `DROVER_MODEL_SEED` selects other cases; a failure prints its seed.

#![allow(clippy::unwrap_used)] // A failed unwrap is a failure of the test.

mod answers;
mod changing;
mod clock;
mod comparing;
mod events;
mod groups;
mod leases;
mod leasing;
mod limit;
mod maintenance;
mod message;
mod model;
mod model_json;
mod operation;
mod posting;
mod purging;
mod queue_and_model;
mod run_operation;
mod schedules;
mod scheduling;
mod settings;
mod settling;
mod ticking;

use std::{
    cell::{Cell, OnceCell},
    env,
    fmt::Write,
    time::Duration,
};

use drover_tests::RedisServer;
use operation::{Operation, random_operations};
use proptest::{
    strategy::Strategy,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner},
};
use queue_and_model::QueueAndModel;
use queue_core::Redis;
use tokio::runtime::Builder;

/// The number of steps unless `DROVER_MODEL_STEPS` sets another.
const DEFAULT_STEPS: u64 = 8_000;
/// The maximum time that proptest spends on finding a smaller case.
const SHRINKING_MS: u32 = 120_000;

#[test]
fn queue_behaves_like_the_model() {
    queue_core::Redis::inject_clock();
    let server = RedisServer::start();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let redis = Redis::new(&server.url(), Duration::from_secs(20)).unwrap();
    let (steps, seed) = (
        number_from_env("DROVER_MODEL_STEPS").unwrap_or(DEFAULT_STEPS),
        number_from_env("DROVER_MODEL_SEED").unwrap_or(1),
    );
    let config = Config { failure_persistence: None, max_shrink_time: SHRINKING_MS, ..Config::default() };
    let mut seed_bytes = [0; 32];
    seed_bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed_bytes));
    let steps_done = Cell::new(0);
    // proptest shrinks a case in which the queue and the model differ. The smaller case may show another difference, so
    // the failure also shows the difference in the original case.
    let first_difference = OnceCell::new();
    while steps_done.get() < steps {
        let case = random_operations().new_tree(&mut runner).unwrap();
        let run_case = |operations: Vec<Operation>| {
            steps_done.set(steps_done.get() + operations.len() as u64);
            runtime.block_on(run_operations(&redis, &server.url(), &operations)).map_err(|difference| {
                first_difference.get_or_init(|| difference.lines().take(3).collect::<Vec<_>>().join("\n"));
                TestCaseError::fail(difference)
            })
        };
        match runner.run_one(case, run_case) {
            Ok(_) => {}
            Err(TestError::Fail(difference, _)) => {
                let first_text = first_difference.get().map_or("", String::as_str);
                let steps = steps_done.get();
                panic!("DROVER_MODEL_SEED={seed}, after {steps} steps: {difference}\nbefore shrinking: {first_text}")
            }
            Err(TestError::Abort(reason)) => panic!("{reason}"),
        }
    }
}

async fn run_operations(redis: &Redis, url: &str, operations: &[Operation]) -> Result<(), String> {
    let mut fixture = QueueAndModel::new(redis, url);
    let mut history = String::new();
    for operation in operations {
        fixture.set_clock();
        let step_result = match Box::pin(fixture.execute(operation)).await {
            Ok(answers) => {
                writeln!(history, "  {}", answers.description).unwrap();
                comparing::check_equal("the answer", &answers.real, &answers.model)
            }
            Err(error) => {
                writeln!(history, "  {operation:?}").unwrap();
                Err(error)
            }
        };
        fixture.set_clock();
        let step_result = match step_result {
            Ok(()) => fixture.compare().await,
            different => different,
        };
        step_result.map_err(|difference| format!("{difference}\nafter\n{history}"))?;
    }
    fixture.compare_leftovers().await.map_err(|difference| format!("{difference}\nafter\n{history}"))
}

fn number_from_env(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().expect("the value of the variable is a number"))
}
