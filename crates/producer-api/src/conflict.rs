//! What is said when a message is in a state in which something can't be done.

use queue_core::{MessageRef, QueueName, State};
use service::{Code, Problem};

use crate::api::message::location;

/// What may be done with one message.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Operation {
    Erase,
    Cancel,
    Retry,
    Promote,
}

/// Names the state that was found, in the code too, and the way out.
pub(crate) fn refuse(operation: Operation, found: State, queue: &QueueName, id: &MessageRef) -> Problem {
    let rule = match operation {
        Operation::Erase => "an active message can't be erased",
        Operation::Cancel => "only what has not finished can be cancelled",
        Operation::Retry => "only a failed message can be retried",
        Operation::Promote => "only a delayed message can be promoted",
    };
    let path = location(queue, id);
    let way_out = match (operation, found) {
        (Operation::Erase, _) => format!("cancel it, POST {path}/cancel, or let it finish, then erase it"),
        (Operation::Cancel, State::Failed) => format!("erase it if nobody needs it: DELETE {path}"),
        (Operation::Cancel, _) => "its result stays; post another message to undo what it did".into(),
        (Operation::Promote, State::Failed) => format!("retry it: POST {path}/retry"),
        (_, State::Held) => {
            format!("send the signal that it is held for: POST /v1/queues/{queue}/signals/{{its \"hold\"}}")
        }
        (_, State::Delayed) => format!("promote it: POST {path}/promote"),
        (_, State::Waiting) => "it is handed out without that, as soon as a consumer is free".into(),
        (_, State::Active) => format!("wait for what comes of it: GET {path}?wait=20s"),
        (_, State::Completed | State::Failed) => match id {
            MessageRef::Id(_) => "to do the work once more, post its data as a new message".into(),
            // The id is taken for as long as the message stands: posted again with it, the message would be a duplicate.
            MessageRef::Own(_) => format!(
                "to do the work once more, post it as a new message with another id, or erase this one, DELETE {path}, and post \
                 it again"
            ),
        },
    };
    let detail = format!("message {id} is {}, and {rule}; {way_out}", found.as_str());
    Problem::new(code(found), detail)
}

fn code(found: State) -> Code {
    match found {
        State::Held => Code::MessageHeld,
        State::Delayed => Code::MessageDelayed,
        State::Waiting => Code::MessageWaiting,
        State::Active => Code::MessageActive,
        State::Completed => Code::MessageCompleted,
        State::Failed => Code::MessageFailed,
    }
}
