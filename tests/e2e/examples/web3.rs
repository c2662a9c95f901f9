//! The example `web3`: each confirmed event of a real chain is handled once and in order, although processes are killed and
//! blocks are reorganised.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::{Duration, Instant},
};

use drover_tests::{Process, ReservedPort, TIME_LIMIT};
use rand::{RngExt, rngs::StdRng};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::sleep;

use super::web3_chain::{Chain, hex_number};
use crate::{
    System, http_client,
    markdown::document,
    seed::{Seed, from_env},
};

const CONFIRMATIONS: u64 = 3;

/// The chain, Drover and the processes of the example.
struct ExampleTest {
    system: System,
    chain: Chain,
    /// The highest block number that the chain has reached so far.
    highest: u64,
    files: TempDir,
    ledger_port: ReservedPort,
    watcher: Process,
    ledger: Process,
    worker: Process,
}

impl ExampleTest {
    async fn start() -> Self {
        let ledger_port = ReservedPort::reserve();
        let config = document("examples/web3/drover.toml");
        // The test replaces the ledger's address and two time limits in the example's configuration, and keeps all other settings. With a
        // short visibility timeout, the messages of a killed worker are delivered again sooner.
        let changed_config = config
            .replace("127.0.0.1:8091", &ledger_port.address().to_string())
            .replace("visibility_timeout = \"10s\"", "visibility_timeout = \"1s\"")
            .replace("timeout = \"10s\"", "timeout = \"1s\"");
        assert_ne!(changed_config, config);
        let system = System::start(&changed_config).await;
        let chain = Chain::start(&system.http).await;
        let files = tempfile::tempdir().unwrap();
        let watcher = start_watcher(&system, &chain, files.path());
        let ledger = start_ledger(&chain, &ledger_port, files.path());
        let worker = system.launch_worker(&[]);
        Self { system, chain, highest: 0, files, ledger_port, watcher, ledger, worker }
    }

    /// Kills a random process, and starts it again after a while.
    async fn kill_random_process(&mut self, random: &mut StdRng) {
        let down = Duration::from_millis(random.random_range(0..300));
        match random.random_range(0..4) {
            0 => {
                self.watcher.kill();
                sleep(down).await;
                self.watcher = start_watcher(&self.system, &self.chain, self.files.path());
            }
            1 => {
                self.ledger.kill();
                sleep(down).await;
                self.ledger = start_ledger(&self.chain, &self.ledger_port, self.files.path());
            }
            2 => {
                self.worker.kill();
                sleep(down).await;
                self.worker = self.system.launch_worker(&[]);
            }
            _ => {
                self.system.api.kill();
                sleep(down).await;
                self.system.relaunch_api();
            }
        }
    }

    async fn mine_blocks(&mut self, blocks: u64) {
        self.chain.mine_blocks(blocks).await;
        self.highest = self.highest.max(self.chain.last_block_number().await);
    }

    /// Replaces some of the last blocks, none of them confirmed, by blocks without payments. Returns the number of payments whose blocks
    /// were replaced.
    async fn reorganise(&self, random: &mut StdRng) -> usize {
        let last_block = self.chain.last_block_number().await;
        // The contract was deployed in block 1, which must not be replaced.
        let last_confirmed = self.highest.saturating_sub(CONFIRMATIONS).max(1);
        let depth = random.random_range(0..=last_block - last_confirmed);
        if depth == 0 {
            return 0;
        }
        let event_count_before = self.chain.events(last_block).await.len();
        self.chain.rpc("anvil_reorg", json!([depth, []])).await;
        event_count_before - self.chain.events(last_block).await.len()
    }

    /// Adds up to `CONFIRMATIONS` blocks to the chain, and then removes these blocks, none of which was confirmed.
    async fn add_and_remove_blocks(&mut self, random: &mut StdRng) {
        let snapshot = self.chain.rpc("evm_snapshot", json!([])).await;
        self.chain.send_payments(random.random_range(1..4));
        self.mine_blocks(random.random_range(1..=CONFIRMATIONS)).await;
        sleep(Duration::from_millis(random.random_range(0..800))).await;
        assert_eq!(self.chain.rpc("evm_revert", json!([snapshot])).await, true);
    }

    /// Waits until the watcher has read all confirmed blocks. Returns the number of the last confirmed block.
    async fn wait_until_blocks_are_read(&self) -> u64 {
        let confirmed = self.chain.last_block_number().await - CONFIRMATIONS;
        let started_at = Instant::now();
        loop {
            let checkpoint = fs::read(self.files.path().join("checkpoint")).unwrap_or_default();
            let checkpoint: Value = serde_json::from_slice(&checkpoint).unwrap_or_default();
            if checkpoint["next_block"].as_u64() > Some(confirmed) {
                return confirmed;
            }
            assert!(started_at.elapsed() < TIME_LIMIT, "block {confirmed} is not read: {checkpoint}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn queue(&self) -> Value {
        self.system.get("/v1/queues/payments").await
    }

    /// Compares the confirmed events of the chain with the completed messages, and with the journal and the balances of the
    /// ledger.
    async fn assert_each_event_was_handled_once_and_in_order(&self, confirmed: u64) {
        let events = self.chain.events(confirmed).await;
        let event_count = events.len();
        let started_at = Instant::now();
        while self.queue().await["counts"]["completed"] != event_count {
            assert!(started_at.elapsed() < 3 * TIME_LIMIT, "{event_count} events are handled: {}", self.queue().await);
            sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(self.queue().await["totals"]["enqueued"], event_count, "only confirmed events were posted");

        let mut by_payer: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (n, event) in (1..).zip(&events) {
            // The first 32 bytes of the event's data are the number that the contract has given the event.
            assert_eq!(u64::from_str_radix(&event["data"].as_str().unwrap()[2..66], 16).unwrap(), n);
            let payer = format!("0x{}", &event["topics"][1].as_str().unwrap()[26..]);
            let transaction = event["transactionHash"].as_str().unwrap();
            by_payer.entry(payer).or_default().push(format!("31337-{transaction}-{}", hex_number(&event["logIndex"])));
        }
        let completed = self.completed_ids().await;
        assert_eq!(completed.len(), event_count, "each event is one message");
        assert_eq!(completed.into_iter().collect::<BTreeSet<_>>(), by_payer.values().flatten().cloned().collect());

        let mut journal: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut balances: BTreeMap<String, u64> = BTreeMap::new();
        for line in fs::read_to_string(self.files.path().join("journal")).unwrap().lines() {
            let journal_entry: Value = serde_json::from_str(line).unwrap();
            let payer = journal_entry["payer"].as_str().unwrap().to_owned();
            *balances.entry(payer.clone()).or_default() +=
                journal_entry["amount"].as_str().unwrap().parse::<u64>().unwrap();
            journal.entry(payer).or_default().push(journal_entry["id"].as_str().unwrap().to_owned());
        }
        assert_eq!(journal, by_payer, "the ledger counted each event once, in the order of the chain");
        let shown_balances: BTreeMap<String, String> = serde_json::from_value(self.balances().await).unwrap();
        assert_eq!(
            shown_balances,
            balances.iter().map(|(payer, balance)| (payer.clone(), balance.to_string())).collect()
        );
        let contract_balance =
            self.chain.rpc("eth_getBalance", json!([self.chain.contract, format!("{confirmed:#x}")])).await;
        assert_eq!(hex_number(&contract_balance), balances.values().sum::<u64>(), "the ledger agrees with the chain");
    }

    /// The balances that the ledger shows.
    async fn balances(&self) -> Value {
        let url = format!("http://{}/balances", self.ledger_port.address());
        self.system.http.get(url).send().await.unwrap().json().await.unwrap()
    }

    /// The ids of all completed messages.
    async fn completed_ids(&self) -> Vec<String> {
        let (mut ids, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/v1/queues/payments/messages?state=completed&limit=1000{cursor}");
            let page = self.system.get(&path).await;
            let messages = page["messages"].as_array().unwrap();
            ids.extend(messages.iter().map(|message| message["id"].as_str().unwrap().to_owned()));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return ids,
            }
        }
    }
}

fn start_watcher(system: &System, chain: &Chain, files: &Path) -> Process {
    let checkpoint = files.join("checkpoint");
    let watch_arguments = ["watch", "--drover", &system.base, "--contract", &chain.contract];
    let confirmations = CONFIRMATIONS.to_string();
    let limit_arguments = ["--checkpoint", checkpoint.to_str().unwrap(), "--confirmations", &confirmations];
    chain.start_web3(&[&watch_arguments[..], &limit_arguments].concat())
}

fn start_ledger(chain: &Chain, port: &ReservedPort, files: &Path) -> Process {
    let (bind, journal) = (port.address().to_string(), files.join("journal"));
    chain.start_web3(&["ledger", "--bind", &bind, "--journal", journal.to_str().unwrap()])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_confirmed_event_of_a_chain_is_handled_once_and_in_order_while_processes_are_killed_and_blocks_replaced() {
    let (_seed, mut random) = Seed::choose();
    let duration = Duration::from_secs(from_env("DROVER_FAULTS_SECS").unwrap_or(20));
    let mut test = ExampleTest::start().await;
    let started_at = Instant::now();
    let (mut kills, mut gone) = (0, 0);
    while started_at.elapsed() < duration || kills < 5 || gone == 0 {
        assert!(started_at.elapsed() < duration + 3 * TIME_LIMIT, "{kills} kills, {gone} payments are gone");
        match random.random_range(0..6) {
            0 | 1 => {
                test.chain.send_payments(random.random_range(1..30));
                test.mine_blocks(random.random_range(1..4)).await;
            }
            2 => gone += test.reorganise(&mut random).await,
            3 => test.add_and_remove_blocks(&mut random).await,
            _ => {
                test.kill_random_process(&mut random).await;
                kills += 1;
            }
        }
        sleep(Duration::from_millis(random.random_range(0..400))).await;
    }
    test.chain.send_payments(10);
    // The test makes the chain longer than the chain was at any time before.
    test.mine_blocks(1 + 2 * CONFIRMATIONS).await;
    test.system.wait_until_ready(&test.system.base).await;
    let confirmed = test.wait_until_blocks_are_read().await;
    test.assert_each_event_was_handled_once_and_in_order(confirmed).await;

    // A watcher that has lost its checkpoint posts all events again, but Drover stores none of them twice, because their ids
    // are taken.
    test.watcher.kill();
    fs::remove_file(test.files.path().join("checkpoint")).unwrap();
    test.watcher = start_watcher(&test.system, &test.chain, test.files.path());
    test.wait_until_blocks_are_read().await;
    test.assert_each_event_was_handled_once_and_in_order(confirmed).await;
    test.system.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watcher_of_a_chain_stops_with_a_reason_when_a_block_that_it_has_read_is_replaced() {
    let mut test = ExampleTest::start().await;
    test.chain.send_payments(2);
    test.chain.mine_blocks(2 + CONFIRMATIONS).await;
    let confirmed = test.wait_until_blocks_are_read().await;
    test.chain.rpc("anvil_reorg", json!([1 + CONFIRMATIONS, []])).await;
    test.chain.mine_blocks(1).await;
    assert!(!test.watcher.wait().success());
    let log = test.watcher.log().join("\n");
    assert!(log.contains(&format!("block {confirmed} has been replaced since it was read")), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ledger_counts_a_repeated_payment_once_and_drops_only_an_incomplete_last_line() {
    let port = ReservedPort::reserve();
    let http = http_client();
    let chain = Chain::start(&http).await;
    let files = tempfile::tempdir().unwrap();
    let journal = files.path().join("journal");
    let start = || {
        let ledger = start_ledger(&chain, &port, files.path());
        ledger.wait_for_log("the ledger listens");
        ledger
    };
    let pay = async |id: &str, amount: &str| -> Value {
        let payment_data =
            json!({"block": 1, "transaction": "0x1", "log_index": 0, "payer": "0xa", "number": 1, "amount": amount});
        let url = format!("http://{}/payments", port.address());
        let answer = http.post(url).header("drover-message-id", id).json(&payment_data).send().await.unwrap();
        answer.json().await.unwrap()
    };
    let mut ledger = start();
    assert_eq!(pay("one", "5").await, json!({"balance": "5"}));
    assert_eq!(pay("one", "5").await, json!({"balance": "5"}));
    for cut in ["{\"id\":\"two\",\"bl", ""] {
        ledger.kill();
        let journal_lines = fs::read_to_string(&journal).unwrap();
        fs::write(&journal, format!("{journal_lines}{cut}")).unwrap();
        ledger = start();
        assert_eq!(pay("one", "5").await["balance"], if cut.is_empty() { "12" } else { "5" });
        assert_eq!(pay("two", "7").await, json!({"balance": "12"}));
    }
    assert_eq!(fs::read_to_string(&journal).unwrap().lines().count(), 2);
}
