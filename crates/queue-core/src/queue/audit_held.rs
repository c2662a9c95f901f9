//! The part of the audit that checks held messages: each held message is held for one key, which the message's options have.

use crate::{
    error::Result,
    queue::{
        Call, Queue,
        audit::{Finding, IDS_PER_STEP},
    },
    redis::{scripts, suffix},
};

impl Queue {
    /// Checks each member of `held`, and returns the problems.
    pub(super) async fn audit_held(&self) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        for members in self.scan("ZSCAN", suffix::HELD, 2).await?.chunks(IDS_PER_STEP) {
            let mut call = Call::new(&scripts::AUDIT, &self.keys).arg("held");
            for member in members {
                call.push(member.as_str());
            }
            let are_wrong: Vec<bool> = self.call(&scripts::AUDIT, call).await?;
            let wrong_members = members.iter().zip(are_wrong).filter(|(_, is_wrong)| *is_wrong);
            findings.extend(wrong_members.map(|(member, _)| Finding {
                id: id_of_held(member).unwrap_or_default().to_owned(),
                problem: format!(
                    "held as {member:?}, but the message's options have another hold key, or the message is held twice"
                ),
            }));
        }
        Ok(findings)
    }
}

/// Returns the id in a member of `held`.
pub(super) fn id_of_held(member: &str) -> Option<&str> {
    member.split('\t').nth(1)
}
