use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::body::{Body, Bytes};
use http_body::{Frame, SizeHint};

use super::pace::Pace;

/// The body of an answer, which tells when it is over: it is dropped as soon as its end was handed on.
pub(super) struct Answer {
    body: Body,
    pace: Arc<Pace>,
}

impl Answer {
    pub(super) fn new(body: Body, pace: Arc<Pace>) -> Self {
        Self { body, pace }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.pace.answered();
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
