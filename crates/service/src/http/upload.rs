use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::body::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::pace::Pace;

/// The body of a request, which tells when it is given up before its end.
pub(super) struct Upload {
    body: Incoming,
    pace: Arc<Pace>,
    has_ended: bool,
}

impl Upload {
    pub(super) fn new(body: Incoming, pace: Arc<Pace>) -> Self {
        Self { body, pace, has_ended: false }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.has_ended && !self.body.is_end_stream() {
            self.pace.unheard();
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        self.has_ended |= matches!(frame, Poll::Ready(None));
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
