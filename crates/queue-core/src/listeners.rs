use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::{Instant, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use crate::{
    Bell, Event, EventId, Queue, QueueName, Result, Retry, Subscriber,
    event::{News, Stretch},
};

/// How long a tailer that hears nothing sleeps at most: a notification may be lost.
const POLL: Duration = Duration::from_secs(5);
/// How often a tailer whose queue is gone looks for a new one.
const LOOK_FOR_A_NEW_QUEUE_EVERY: Duration = Duration::from_secs(1);
/// Looks that find something are so far apart: what happens meanwhile is read at once.
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);
/// How often a tailer says that somebody listens; the log is kept for ten minutes more.
const SAY_EVERY: Duration = Duration::from_secs(60);
/// A listener that falls so many stretches behind is cut: they are kept until the last one has heard them.
const KEPT_STRETCHES: usize = 128;
/// How long a listener that can't read what it missed waits before it tries again.
const AFTER_AN_ERROR: Duration = Duration::from_secs(1);

/// Those who listen to events of queues: any number of them, with one reader of the log, its tailer, for each queue.
#[derive(Clone)]
pub struct Listeners {
    shared: Arc<Shared>,
}

struct Shared {
    subscriber: Subscriber,
    tailers: TaskTracker,
    shutdown: CancellationToken,
    tails: Mutex<HashMap<QueueName, broadcast::Sender<News>>>,
}

impl Listeners {
    /// Nobody listens yet. `subscriber` wakes the tailers; somebody else runs it. After `shutdown` nobody listens any longer.
    pub fn new(subscriber: Subscriber, shutdown: CancellationToken) -> Self {
        let tailers = TaskTracker::new();
        tailers.close();
        Self { shared: Arc::new(Shared { subscriber, tailers, shutdown, tails: Mutex::default() }) }
    }

    /// Listens to what happens in a queue from now on, or from after the event `last`; `None` if there is no such queue.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`](crate::Error::Unavailable), [`Error::NewerLayout`](crate::Error::NewerLayout),
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub async fn listen(&self, queue: &Arc<Queue>, last: Option<EventId>) -> Result<Option<Listener>> {
        // Once before the tailer is there, so that strangers start none for what is no queue.
        if queue.listen().await?.is_none() {
            return Ok(None);
        }
        let news = self.subscribe(queue);
        // Only now, so that nothing comes between.
        let Some(newest) = queue.listen().await? else { return Ok(None) };
        let phase = if last.is_some() { Phase::CatchingUp } else { Phase::Live };
        let shutdown = self.shared.shutdown.child_token();
        Ok(Some(Listener { queue: Arc::clone(queue), news, last: last.or(Some(newest)), phase, shutdown }))
    }

    /// Waits until all tailers have ended, which they do soon after the shutdown.
    pub async fn stopped(&self) {
        self.shared.tailers.wait().await;
    }

    fn subscribe(&self, queue: &Arc<Queue>) -> broadcast::Receiver<News> {
        let mut tails = self.shared.lock();
        if let Some(tail) = tails.get(queue.name()) {
            return tail.subscribe();
        }
        let (tail, news) = broadcast::channel(KEPT_STRETCHES);
        tails.insert(queue.name().clone(), tail.clone());
        let bell = self.shared.subscriber.bell_of_events(queue.name());
        let tailer =
            Tailer { shared: Arc::clone(&self.shared), queue: Arc::clone(queue), bell, tail, at: Place::Unknown };
        self.shared.tailers.spawn(tailer.run());
        news
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<QueueName, broadcast::Sender<News>>> {
        // Nothing that is done under this lock can panic half-way.
        self.tails.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the log of one queue for all who listen to it in this process, until nobody does.
struct Tailer {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    bell: Arc<Bell>,
    tail: broadcast::Sender<News>,
    at: Place,
}

/// How far a tailer has read.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// It has not looked yet.
    Unknown,
    /// Up to this event.
    After(EventId),
    /// The queue is gone, or was when it looked last.
    NoQueue,
}

/// What a look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Something,
    Nothing,
}

impl Tailer {
    async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        tokio::select! {
            () = self.follow() => {}
            // Those who listen learn it when the last end of the channel goes.
            () = shared.shutdown.cancelled() => drop(shared.lock().remove(self.queue.name())),
        }
    }

    async fn follow(&mut self) {
        let mut retry = Retry::new();
        let mut told = false;
        let mut say_at = Instant::now() + SAY_EVERY;
        while self.has_listeners() {
            let looked = async {
                if say_at <= Instant::now() {
                    self.queue.listen().await?;
                    say_at = Instant::now() + SAY_EVERY;
                }
                self.look().await
            };
            match looked.await {
                Ok(found) => {
                    retry.reset();
                    if std::mem::take(&mut told) {
                        info!(queue = %self.queue.name(), "events can be read again");
                    }
                    match found {
                        Found::Something => sleep(BETWEEN_LOOKS).await,
                        // What rang during the look counts.
                        Found::Nothing => self.bell.time_to_look(self.patience()).await,
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        warn!(queue = %self.queue.name(), %error, "events can't be read, trying on");
                    }
                    sleep(retry.pause()).await;
                }
            }
        }
    }

    /// Whether anybody listens; if not, this tailer is no longer the queue's.
    fn has_listeners(&self) -> bool {
        let mut tails = self.shared.lock();
        let has_listeners = self.tail.receiver_count() > 0;
        if !has_listeners {
            tails.remove(self.queue.name());
        }
        has_listeners
    }

    fn patience(&self) -> Duration {
        match self.at {
            Place::NoQueue => LOOK_FOR_A_NEW_QUEUE_EVERY,
            Place::Unknown | Place::After(_) => POLL,
        }
    }

    async fn look(&mut self) -> Result<Found> {
        if let Place::After(last) = self.at
            && let Some(stretch) = self.queue.events_after(last).await?
        {
            if stretch.end == last {
                return Ok(Found::Nothing);
            }
            self.tell(News::Happened { after: last, stretch: Arc::new(stretch) });
            return Ok(Found::Something);
        }
        let news = match (self.at, self.queue.listen().await?) {
            // Whoever has heard less than this reads it.
            (Place::Unknown, Some(newest)) => {
                News::Happened { after: newest, stretch: Arc::new(Stretch::empty(newest)) }
            }
            (_, Some(newest)) => News::Reset(newest),
            (Place::NoQueue, None) => return Ok(Found::Nothing),
            (_, None) => News::Lost,
        };
        self.tell(news);
        Ok(Found::Nothing)
    }

    fn tell(&mut self, news: News) {
        self.at = match &news {
            News::Happened { stretch, .. } => Place::After(stretch.end),
            News::Reset(newest) => Place::After(*newest),
            News::Lost => Place::NoQueue,
        };
        // Whoever listened may have gone.
        let _ = self.tail.send(news);
    }
}

/// One who listens to what happens in a queue.
pub struct Listener {
    queue: Arc<Queue>,
    news: broadcast::Receiver<News>,
    /// What was heard last; `None` while there is no queue.
    last: Option<EventId>,
    phase: Phase,
    shutdown: CancellationToken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It reads by itself what it has missed.
    CatchingUp,
    /// It hears what the tailer reads.
    Live,
}

/// What a listener hears.
#[derive(Debug, Clone)]
pub enum Heard {
    /// This happened.
    Events(Events),
    /// What happened before is no longer known in full: it was too long ago, or the queue was deleted, or Redis has lost its
    /// memory. Everything that happens after this event is heard; with none, there is no such queue now.
    Reset(Option<EventId>),
}

/// Some events, in the order in which they happened.
#[derive(Debug, Clone)]
pub struct Events {
    stretch: Arc<Stretch>,
    after: EventId,
}

impl Events {
    /// One by one.
    pub fn iter(&self) -> impl Iterator<Item = &Event> {
        self.stretch.events.iter().filter(|event| event.id > self.after)
    }
}

/// Why a listener hears no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// It did not listen while others did; what it missed is in the log: listen again, from after what was heard last.
    #[error("it fell too far behind")]
    TooSlow,
    /// This process stops.
    #[error("this process stops")]
    Stopping,
}

impl Listener {
    /// The event after which everything is heard; `None` while there is no queue.
    pub fn last(&self) -> Option<EventId> {
        self.last
    }

    /// Waits until there is something to hear. Safe to give up half-way.
    ///
    /// # Errors
    ///
    /// [`Ended`], when there will be nothing more.
    pub async fn hear(&mut self) -> Result<Heard, Ended> {
        let shutdown = self.shutdown.clone();
        tokio::select! {
            heard = self.hear_next() => heard,
            () = shutdown.cancelled() => Err(Ended::Stopping),
        }
    }

    async fn hear_next(&mut self) -> Result<Heard, Ended> {
        loop {
            if let (Phase::CatchingUp, Some(last)) = (self.phase, self.last) {
                match self.catch_up(last).await {
                    Ok(Some(heard)) => return Ok(heard),
                    Ok(None) => {}
                    Err(_) => sleep(AFTER_AN_ERROR).await,
                }
                continue;
            }
            match self.news.recv().await {
                Ok(news) => {
                    if let Some(heard) = self.take(news) {
                        return Ok(heard);
                    }
                }
                Err(RecvError::Lagged(_)) => return Err(Ended::TooSlow),
                Err(RecvError::Closed) => return Err(Ended::Stopping),
            }
        }
    }

    /// Reads what was missed, a bounded part.
    async fn catch_up(&mut self, last: EventId) -> Result<Option<Heard>> {
        // What the tailer tells from here on is heard, so that nothing lies between what is read and that.
        let news = self.news.resubscribe();
        if let Some(stretch) = self.queue.events_after(last).await? {
            self.news = news;
            if stretch.end == last {
                self.phase = Phase::Live;
                return Ok(None);
            }
            self.last = Some(stretch.end);
            return Ok(Some(Heard::Events(Events { stretch: Arc::new(stretch), after: last })));
        }
        let newest = self.queue.listen().await?;
        (self.news, self.phase, self.last) = (news, Phase::Live, newest);
        Ok(Some(Heard::Reset(newest)))
    }

    fn take(&mut self, news: News) -> Option<Heard> {
        match (news, self.last) {
            (News::Reset(newest), _) => {
                self.last = Some(newest);
                Some(Heard::Reset(self.last))
            }
            (News::Lost, Some(_)) => {
                self.last = None;
                Some(Heard::Reset(None))
            }
            (News::Happened { after, stretch }, Some(last)) if stretch.end > last => {
                if after > last {
                    self.phase = Phase::CatchingUp;
                    return None;
                }
                self.last = Some(stretch.end);
                Some(Heard::Events(Events { stretch, after: last }))
            }
            (News::Lost | News::Happened { .. }, _) => None,
        }
    }
}
