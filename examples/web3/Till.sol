// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.0;

/// Counts payments. Each payment to this contract emits an event.
contract Till {
    /// A payment. `number` counts all payments to this contract, from 1.
    event Paid(address indexed payer, uint256 number, uint256 amount);

    /// The number of payments so far.
    uint256 public payments;

    receive() external payable {
        payments += 1;
        emit Paid(msg.sender, payments, msg.value);
    }
}
