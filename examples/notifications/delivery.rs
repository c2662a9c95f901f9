//! The task that leases notifications and puts them into mailboxes, and the task that returns unacknowledged notifications to Drover.

use std::{sync::Arc, time::Instant};

use futures_util::{StreamExt, stream};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    App,
    drover::{Error, Leased, UserLocation},
    mailboxes::Notification,
    times::Times,
    user::User,
};

/// The maximum number of notifications that are delivered or returned at the same time.
const MAX_CONCURRENT_NOTIFICATIONS: usize = 16;

/// Leases and delivers notifications until `stop` is cancelled. A lease request that is interrupted leaves no lease behind, because Drover
/// releases messages whose client has disconnected.
pub(crate) async fn deliver(app: Arc<App>, stop: CancellationToken) {
    let mut has_failed = false;
    while let Some(leased) = stop.run_until_cancelled(app.drover.lease()).await {
        match leased {
            Ok(messages) => {
                if std::mem::take(&mut has_failed) {
                    info!("Drover works again");
                }
                let leased_at = Instant::now();
                let deliver = |message| deliver_one(&app, message, leased_at);
                stream::iter(messages).for_each_concurrent(MAX_CONCURRENT_NOTIFICATIONS, deliver).await;
            }
            Err(error) => {
                if !std::mem::replace(&mut has_failed, true) {
                    warn!("no notification can be leased, trying again: {error}");
                }
                stop.run_until_cancelled(sleep(Times::RETRY)).await;
            }
        }
    }
}

async fn deliver_one(app: &App, message: Leased, leased_at: Instant) {
    let user: Option<User> = message.group.as_deref().and_then(|group| group.parse().ok());
    let Some(user) = user else {
        let failed = app.drover.fail(&message.lease, "no_user", "post it with a user's name as its \"group\"").await;
        match failed {
            Ok(()) => warn!(message = message.id, "a notification names no user: it has failed"),
            Err(error) => warn_of_redelivery(&message.id, &error),
        }
        return;
    };
    let notification = Arc::new(Notification::new(user, message, leased_at));
    let Err(notification) = app.mailboxes.deliver(notification) else { return };
    if let Ok(UserLocation::At(server)) = app.drover.user_location(&notification.user).await
        && app.drover.hand_over(&server, &notification.message).await.is_ok()
    {
        return;
    }
    return_notification(app, &notification).await;
}

/// Returns notifications to Drover that were not acknowledged in time, until `stop` is cancelled. When `stop` is cancelled, the function
/// closes all mailboxes, and returns their notifications to Drover.
pub(crate) async fn return_overdue(app: Arc<App>, stop: CancellationToken) {
    let mut ticks = interval(app.times.lease / 10);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        return_notifications(&app, app.mailboxes.take_overdue_notifications()).await;
    }
    return_notifications(&app, app.mailboxes.close_all()).await;
}

async fn return_notifications(app: &App, notifications: Vec<Arc<Notification>>) {
    let give_back = async |notification: Arc<Notification>| return_notification(app, &notification).await;
    stream::iter(notifications).for_each_concurrent(MAX_CONCURRENT_NOTIFICATIONS, give_back).await;
}

/// Returns a notification to Drover. If the request to Drover fails, the lease of the notification lapses, and then the notification is
/// leased again.
pub(crate) async fn return_notification(app: &App, notification: &Notification) {
    if let Err(error) = try_to_return_notification(app, notification).await {
        warn_of_redelivery(&notification.message.id, &error);
    }
}

async fn try_to_return_notification(app: &App, Notification { user, message, .. }: &Notification) -> Result<(), Error> {
    if app.drover.user_location(user).await? == UserLocation::Away {
        app.drover.hold(&message.lease, user).await
    } else {
        // The user needs longer to acknowledge the notification, or is logged in at another server that did not take the notification.
        app.drover.release(&message.lease, app.times.fetch).await
    }
}

fn warn_of_redelivery(id: &str, error: &Error) {
    warn!(message = id, "a notification is delivered again after its lease has lapsed: {error}");
}
