//! Runs a local Ethereum chain for one test with anvil, a program that `make tools` installs.

use std::{
    fs,
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use drover_tests::{Process, ReservedPort, binary, eventually};
use reqwest::Client;
use serde_json::{Value, json};

/// A running anvil with the contract of the example, which mines a block only on request.
pub(super) struct Chain {
    anvil: Child,
    port: ReservedPort,
    http: Client,
    pub(super) contract: String,
}

impl Chain {
    pub(super) async fn start(http: &Client) -> Self {
        let port = ReservedPort::reserve();
        let mut command = Command::new(installed_tool("anvil"));
        command.args(["--silent", "--port", &port.number().to_string()]).stdin(Stdio::null());
        let anvil = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        eventually("the chain listens", || TcpStream::connect(port.address()).ok());
        let mut chain = Self { anvil, port, http: http.clone(), contract: String::new() };
        // A new anvil mines a block for each transaction, until `evm_setAutomine` turns this off.
        chain.contract = chain.run_to_end(&["deploy", installed_tool("Till.bin").to_str().unwrap()]);
        chain.rpc("evm_setAutomine", json!([false])).await;
        chain
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// Starts the example `web3` with this chain.
    pub(super) fn start_web3(&self, arguments: &[&str]) -> Process {
        let url = self.url();
        Process::start_example("web3", &[&["--rpc", &url], arguments].concat(), &[])
    }

    /// Runs the example `web3` with this chain to its end. Returns its output.
    fn run_to_end(&self, arguments: &[&str]) -> String {
        let mut web3 = self.start_web3(arguments);
        assert!(web3.wait().success(), "{arguments:?}: {:?}", web3.log());
        web3.log().join("\n")
    }

    /// Sends payments to the contract. The next block will contain the payments.
    pub(super) fn send_payments(&self, payments: u64) {
        self.run_to_end(&["emit", &payments.to_string(), "--contract", &self.contract]);
    }

    pub(super) async fn mine_blocks(&self, blocks: u64) {
        for _ in 0..blocks {
            self.rpc("evm_mine", json!([])).await;
        }
    }

    pub(super) async fn last_block_number(&self) -> u64 {
        hex_number(&self.rpc("eth_blockNumber", json!([])).await)
    }

    /// Returns the events of the contract in all blocks up to the block with the number `last`.
    pub(super) async fn events(&self, last: u64) -> Vec<Value> {
        let filter = json!([{"address": self.contract, "fromBlock": "0x0", "toBlock": format!("{last:#x}")}]);
        self.rpc("eth_getLogs", filter).await.as_array().unwrap().clone()
    }

    pub(super) async fn rpc(&self, method: &str, params: Value) -> Value {
        let rpc_request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let answer: Value = self.http.post(self.url()).json(&rpc_request).send().await.unwrap().json().await.unwrap();
        assert!(answer["error"].is_null(), "{method}: {answer}");
        answer["result"].clone()
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        let _ = self.anvil.kill();
        let _ = self.anvil.wait();
    }
}

/// Returns the path of a program or file that `make tools` has installed for the example.
fn installed_tool(name: &str) -> PathBuf {
    let target_folder = binary("producer-api").ancestors().nth(2).unwrap().to_owned();
    let tool_file = target_folder.join("web3").join(name);
    assert!(fs::exists(&tool_file).unwrap(), "{} is missing: run `make tools`", tool_file.display());
    tool_file
}

/// Parses a hexadecimal number such as `"0x1f"`.
pub(super) fn hex_number(quantity: &Value) -> u64 {
    u64::from_str_radix(quantity.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}
