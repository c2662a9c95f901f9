// Generated from /openapi.json by scripts/types.mjs; `make node-types` renews this file.

export interface paths {
    "/v1/key": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read the rights of the API key
         * @description Any valid key may read its own scopes and queues. If the API has no keys, the response lists all scopes, and `id` is null.
         */
        get: operations["read_key"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/queues": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List queues
         * @description Lists all queues that the key may read, or only the queues whose names begin with a prefix, in the order of their names,
         *     page by page.
         */
        get: operations["list_queues"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/queues/{queue}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Read a queue */
        get: operations["read_queue"];
        put?: never;
        post?: never;
        /**
         * Delete a queue
         * @description The queue is deleted with everything in it. Active messages are deleted too, and their leases are over.
         */
        delete: operations["delete_queue"];
        options?: never;
        head?: never;
        /**
         * Change settings
         * @description Applies a merge patch (RFC 7396) to the settings: an absent setting stays unchanged, and null restores the default. The
         *     first settings create the queue; an empty patch creates no queue.
         */
        patch: operations["configure_queue"];
        trace?: never;
    };
    "/v1/queues/{queue}/events": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Listen to events
         * @description Streams the events of the queue or of one message from now on, as server-sent events. With the header `Last-Event-ID`, a
         *     client resumes a stream.
         */
        get: operations["listen"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/queues/{queue}/leases": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Receive messages
         * @description Each message has a lease, which gives the consumer the right to work on the message. If the client disconnects while it
         *     waits, messages that were leased for it are released at once, and no attempt is counted.
         */
        post: operations["receive"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/queues/{queue}/leases/complete": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Complete a message */
        post: operations["complete_lease"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/queues/{queue}/leases/extend": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Extend a lease
         * @description A lease lasts no longer than the time-out of the run that it belongs to.
         */
        post: operations["extend_lease"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/queues/{queue}/leases/fail": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Fail an attempt
         * @description While the message has attempts left, it can be received again after its back-off.
         */
        post: operations["fail_lease"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/queues/{queue}/leases/release": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Release a message
         * @description Releases a message on which no attempt was made. The message returns to the head of the waiting list, or becomes delayed by
         *     `delay`, or held for the signal `hold`.
         */
        post: operations["release_lease"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/queues/{queue}/leases/settle": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Settle many leases
         * @description Each lease is settled independently. A lease that is over has the outcome `gone`.
         */
        post: operations["settle_leases"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/queues/{queue}/messages": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List messages
         * @description Lists messages of one state or of all states, of one name, of one hold key, or of one group, page by page. A page of large messages ends
         *     early: it has at most about 4 MiB.
         */
        get: operations["list_messages"];
        put?: never;
        /**
         * Post a message
         * @description With `wait`, the response comes when the message has completed or failed, or when the wait is over.
         */
        post: operations["post_message"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/queues/{queue}/messages/batch": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Post many messages
         * @description A JSON body has 1 to 1,000 messages, of which all or none are stored. An NDJSON body has any number of messages, which are
         *     stored while they arrive. Stored messages stay stored, even if the client disconnects or the server can't continue.
         */
        post: operations["post_messages"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/queues/{queue}/messages/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read a message
         * @description With `wait`, the response comes when the message has completed or failed, or when the wait is over.
         */
        get: operations["read_message"];
        put?: never;
        post?: never;
        /**
         * Erase a message
         * @description The message is deleted with its result, its error and its other data.
         */
        delete: operations["erase_message"];
        options?: never;
        head?: never;
        /**
         * Patch a message
         * @description Applies a merge patch (RFC 7396) to a message that was never leased. The `data` of the message is replaced as a whole.
         */
        patch: operations["patch_message"];
        trace?: never;
    };
    "/v1/queues/{queue}/messages/{id}/cancel": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Cancel a message
         * @description A message that has not started fails with the error `cancelled`; the consumer of an active message is told to stop.
         */
        post: operations["cancel_message"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/queues/{queue}/messages/{id}/promote": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Promote a delayed message
         * @description The delayed message becomes ready at once, even during its back-off.
         */
        post: operations["promote_message"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/queues/{queue}/messages/{id}/retry": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Retry a failed message
         * @description The failed message becomes ready at once. A retried message has all its attempts again, and no `ttl`.
         */
        post: operations["retry_message"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/queues/{queue}/pause": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Pause a queue
         * @description A paused queue leases no messages until it is resumed.
         */
        post: operations["pause_queue"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/queues/{queue}/purge": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Purge a queue
         * @description Deletes all messages that are in the given state now.
         */
        post: operations["purge_queue"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/queues/{queue}/resume": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Resume a queue */
        post: operations["resume_queue"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/queues/{queue}/retry_failed": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Retry all failed messages
         * @description All messages that have failed until now become ready, the oldest failure first.
         */
        post: operations["retry_failed"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/queues/{queue}/schedules": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List schedules
         * @description Lists the schedules of a queue in the order of their names, page by page. A page of large messages ends early: it has at most
         *     about 4 MiB.
         */
        get: operations["list_schedules"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/queues/{queue}/schedules/{name}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Read a schedule */
        get: operations["read_schedule"];
        /**
         * Create or replace a schedule
         * @description An equal definition does not change the schedule. A replaced schedule counts its runs anew, and stays paused if it was
         *     paused. The first schedule of a queue creates the queue.
         */
        put: operations["put_schedule"];
        post?: never;
        /**
         * Delete a schedule
         * @description The messages that the schedule has posted stay in the queue.
         */
        delete: operations["delete_schedule"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/queues/{queue}/schedules/{name}/pause": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Pause a schedule
         * @description The schedule has no ticks until it is resumed.
         */
        post: operations["pause_schedule"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/queues/{queue}/schedules/{name}/resume": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Resume a schedule
         * @description The next tick of a resumed schedule is the first tick after the time of the request. No messages are posted for the ticks
         *     during the pause.
         */
        post: operations["resume_schedule"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/queues/{queue}/schedules/{name}/run": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Post a schedule's message now
         * @description This request posts the schedule's message even if the schedule is paused or has ended. The request does not change the
         *     ticks, `runs` and `last_message` of the schedule.
         */
        post: operations["run_schedule"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/queues/{queue}/signals": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List sticky signals
         * @description Lists sticky signals page by page. The signal that ends first comes first.
         */
        get: operations["list_signals"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/queues/{queue}/signals/{key}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Read a sticky signal */
        get: operations["read_signal"];
        put?: never;
        /**
         * Send a signal
         * @description Messages that are held for the key become waiting, or delayed if they are not due yet.
         */
        post: operations["send_signal"];
        /**
         * Forget a sticky signal
         * @description Messages that are posted after the signal is forgotten are held again; released messages stay released.
         */
        delete: operations["forget_signal"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
}
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        /** @description The response of `/livez`. */
        Alive: {
            /** @description Always `alive`. */
            status: string;
        };
        /** @description The outcome of one message of a batch. */
        BatchEntry: {
            /** @description Whether the message with this `id` existed before this post. */
            duplicate: boolean;
            id: string;
            state: components["schemas"]["State"] | null;
        };
        /** @description The outcome of a batch: an entry for each message of a JSON body, or a summary of all lines of an NDJSON body. */
        BatchOrLines: components["schemas"]["PostedBatch"] | components["schemas"]["LinesSummary"];
        /** @description The message after the change; only its id and its queue if it is no longer kept. */
        ChangedMessage: components["schemas"]["Message"] | components["schemas"]["GoneMessage"];
        /** @description Completes a message: the work on the message is done. */
        Complete: {
            action?: components["schemas"]["CompleteAction"] | null;
            lease: components["schemas"]["Lease"];
            /** @description The result: any JSON up to 65536 bytes. */
            result?: unknown;
        };
        /** @enum {string} */
        CompleteAction: "complete";
        /** @description The message that existed before this post; only its id and its queue if it is no longer kept. */
        DuplicateMessage: components["schemas"]["KeptDuplicate"] | components["schemas"]["GoneDuplicate"];
        /** @description Extends a lease. */
        Extend: {
            action?: components["schemas"]["ExtendAction"] | null;
            lease: components["schemas"]["Lease"];
            /** @description The progress of the work: any JSON up to 65536 bytes. */
            progress?: unknown;
            /** @description The time for which the lease lasts from now on; if absent, the visibility timeout with which the message was leased. */
            visibility_timeout?: (number | string) | null;
        };
        /** @enum {string} */
        ExtendAction: "extend";
        /** @description Ends an attempt as failed. */
        Fail: {
            action?: components["schemas"]["FailAction"] | null;
            error?: components["schemas"]["Reason"] | null;
            lease: components["schemas"]["Lease"];
            /** @description `false` if no further attempt can succeed; `true` if absent. */
            retry?: boolean | null;
            /** @description The pause before the next attempt, instead of the back-off; not allowed with `retry: false`. */
            retry_after?: (number | string) | null;
        };
        /** @enum {string} */
        FailAction: "fail";
        /** @description A mistake in one field of the input. */
        FieldError: {
            /** @description The mistake in the field, and the values that are allowed. */
            detail: string;
            /** @description The path of the field, as a JSON pointer (RFC 6901). */
            pointer: string;
        };
        /** @description A message that existed before this post and is no longer kept. */
        GoneDuplicate: components["schemas"]["GoneMessage"] & {
            /** @enum {boolean} */
            duplicate: true;
        };
        /** @description A message that is no longer kept: its state is null. */
        GoneMessage: {
            id: string;
            queue: string;
            state: null;
        };
        /**
         * Format: date-time
         * @description By Redis's clock, in UTC with milliseconds
         * @example 2026-11-23T11:13:13.727Z
         */
        Instant: string;
        /** @description A message that existed before this post. */
        KeptDuplicate: components["schemas"]["Message"] & {
            /** @enum {boolean} */
            duplicate: true;
        };
        /**
         * @description The rights of the client. Without API keys, every client may do everything.
         * @example {
         *       "id": "shop",
         *       "queues": [
         *         "mails",
         *         "user-*"
         *       ],
         *       "scopes": [
         *         "enqueue",
         *         "read"
         *       ]
         *     }
         */
        KeyRights: {
            /** @description The name of the key's owner; null if the API has no keys. */
            id: string | null;
            /** @description The queues on which the key has these scopes: names, starts of names (`user-*`), or `*`. */
            queues: string[];
            /** @description The scopes of the key: `enqueue`, `read`, `consume`, `manage`. */
            scopes: string[];
        };
        /**
         * @description The token that came with the lease
         * @example 21759559372713-mY9hV1Qb0mX3cG7n2sKk5A
         */
        Lease: string;
        /** @description The outcome of settling or extending one lease. */
        LeaseResult: {
            /**
             * @description Present only if the message was cancelled: stop working on the message, and settle its lease.
             * @enum {boolean}
             */
            cancel_requested?: true;
            lease: components["schemas"]["Lease"];
            /** @description The new deadline of the lease; present only if the lease was extended. */
            lease_expires_at?: components["schemas"]["Instant"];
            /**
             * @description The outcome of a lease: `extended`, `gone`, or the new state of the message.
             * @enum {string}
             */
            outcome: "extended" | "gone" | "held" | "delayed" | "waiting" | "active" | "completed" | "failed";
        };
        /** @description The outcome of each lease, in the order of the request. */
        LeaseResults: {
            settlements: components["schemas"]["LeaseResult"][];
        };
        /** @description A message with its lease. */
        LeasedMessage: components["schemas"]["Message"] & {
            lease: components["schemas"]["Lease"];
            lease_expires_at: components["schemas"]["Instant"];
            /**
             * Format: int64
             * @description The time that the run of the message may take, in milliseconds.
             */
            timeout: number | null;
        };
        /** @description The outcome of all lines of an NDJSON body. */
        LinesSummary: {
            /** @description Whether all lines were read; `false` only in an error response. */
            done: boolean;
            /**
             * Format: int64
             * @description The number of messages that existed before this post.
             */
            duplicates: number;
            /**
             * Format: int64
             * @description The number of messages that were stored.
             */
            enqueued: number;
            /** @description The first 100 lines that were refused. */
            refused: components["schemas"]["RefusedLine"][];
            /**
             * Format: int64
             * @description The number of all lines that were refused.
             */
            refused_count: number;
        };
        /**
         * @description A message as clients read it.
         * @example {
         *       "attempts_made": 1,
         *       "consumer": "c-03e14db4f7f6",
         *       "created_at": "2026-11-23T11:13:13.727Z",
         *       "data": {
         *         "hello": 1
         *       },
         *       "delay": 1500,
         *       "deliveries": 1,
         *       "due_at": "2026-11-23T11:13:15.227Z",
         *       "error": null,
         *       "expires_at": null,
         *       "finished_at": "2026-11-23T11:13:15.229Z",
         *       "group": null,
         *       "headers": {},
         *       "hold": null,
         *       "id": "21759559372713",
         *       "lapses": 0,
         *       "max_attempts": 3,
         *       "name": null,
         *       "priority": 0,
         *       "progress": null,
         *       "queue": "my-queue",
         *       "result": "processed ✅",
         *       "started_at": "2026-11-23T11:13:15.228Z",
         *       "state": "completed"
         *     }
         */
        Message: {
            /**
             * Format: int32
             * @description How many attempts have completed or failed.
             */
            attempts_made: number;
            /** @description The consumer that leases the message, or leased it last. */
            consumer: string | null;
            /** @description The instant at which Redis stored the message. */
            created_at: components["schemas"]["Instant"];
            /** @description The payload, exactly as the producer sent it. */
            data: unknown;
            /**
             * Format: int64
             * @description The time from the creation of the message to its first due time, in milliseconds.
             */
            delay: number;
            /**
             * Format: int32
             * @description The number of times that the message was leased.
             */
            deliveries: number;
            /** @description The time at which the message becomes ready: its due time, or the end of its back-off. */
            due_at: components["schemas"]["Instant"];
            /**
             * @description The errors of failed attempts and lapses before `error`: at most five, the oldest first; absent if there are none. A completed
             *     message has them, too. Codes and texts of older errors are shortened.
             */
            earlier_errors?: components["schemas"]["MessageError"][];
            error: components["schemas"]["MessageError"] | null;
            expires_at: components["schemas"]["Instant"] | null;
            finished_at: components["schemas"]["Instant"] | null;
            /** @description The key of the message's group. */
            group: string | null;
            /** @description Headers that the producer sent beside the data. */
            headers: {
                [key: string]: string;
            };
            /** @description The key of the signal that the message waits for. */
            hold: string | null;
            /** @description The producer's own id; Drover's id if there is none. */
            id: string;
            /**
             * Format: int32
             * @description How many leases of the message lapsed.
             */
            lapses: number;
            /** @description The maximum number of attempts. */
            max_attempts: number;
            /** @description The name, which states the kind of message, and by which workers choose the handler. */
            name: string | null;
            /** @description The priority: a message with a lower number is leased first. */
            priority: number;
            /** @description The progress that the handler reported last. */
            progress: unknown;
            /** @description The message's queue. */
            queue: string;
            /** @description The result of the handler. */
            result: unknown;
            /** @description The schedule that posted the message; absent if a client posted it. */
            schedule?: string;
            /** @description The tick for which the schedule posted the message; absent if a client posted it. */
            scheduled_at?: components["schemas"]["Instant"];
            /** @description The data of the signal that released the message; absent if the signal had none. */
            signal?: unknown;
            started_at: components["schemas"]["Instant"] | null;
            /** @description The state of the message. */
            state: components["schemas"]["State"];
        };
        /** @description The error of a failed attempt, of a lapse, or of a message that failed without an attempt. */
        MessageError: {
            /** @description The instant at which the error happened. */
            at: components["schemas"]["Instant"];
            /**
             * Format: int32
             * @description The number of the failed attempt, from 1. After a lapse, or if the message failed without an attempt, the number of its earlier
             *     attempts.
             */
            attempt: number;
            /** @description The code of the error, a word that a program can match. */
            code: string;
            /** @description The text of the error, a sentence for people. */
            message: string;
        };
        /** @description A page of messages. */
        MessagePage: {
            messages: components["schemas"]["Message"][];
            /** @description The cursor of the next page; absent on the last page. */
            next_cursor?: string;
        };
        /**
         * @description Changes of a message. An absent member leaves the message's value unchanged.
         * @example {
         *       "delay": null,
         *       "headers": {
         *         "old": null,
         *         "tried": "twice"
         *       },
         *       "priority": -1
         *     }
         */
        MessagePatch: {
            data?: Record<string, never> | unknown[] | string | number | boolean;
            /** @description The new delay, which counts from now; null removes the delay. */
            delay?: (number | string) | null;
            /** @description The headers to change. Null as the value of a header removes that header; null for `headers` removes all headers. */
            headers?: {
                [key: string]: string | null;
            } | null;
            /** @description The new name, which states the kind of message; null removes the name. */
            name?: string | null;
            /** @description The new priority: a message with a lower number is leased first; null stands for 0. */
            priority?: number | null;
        };
        /**
         * @description Defines what happens to ticks that no process could post in time. The newest due tick is current, and not missed, if it is less
         *     than 10 s old.
         * @enum {string}
         */
        Missed: "skip" | "one" | "all";
        /**
         * @description A batch of messages to post: all messages are stored, or none.
         * @example {
         *       "messages": [
         *         {
         *           "data": 1
         *         },
         *         {
         *           "data": 2,
         *           "delay": "1h",
         *           "id": "order-43"
         *         }
         *       ]
         *     }
         */
        NewBatch: {
            messages: components["schemas"]["NewMessage"][];
        };
        /**
         * @description A message to be posted.
         * @example {
         *       "data": {
         *         "hello": 1
         *       },
         *       "delay": "1500ms"
         *     }
         * @example {
         *       "data": 2,
         *       "id": "order-42",
         *       "priority": -1
         *     }
         */
        NewMessage: {
            backoff?: null | {
                delay?: null | (number | string);
                jitter?: null | number;
                max?: null | (number | string);
                type?: null | ("fixed" | "exponential");
            };
            /** @description The payload: any JSON, stored unchanged. */
            data: unknown;
            /** @description The delay until the message may be leased; excludes `deliver_at`; defaults to no delay. */
            delay?: (number | string) | null;
            /** @description The instant (RFC 3339, before the year 2200) at which the message may be leased; excludes `delay`; defaults to now. */
            deliver_at?: string | null;
            /** @description The key of the message's group: the messages of a group are leased in order, and groups have turns; defaults to none. */
            group?: string | null;
            /** @description Headers that consumers see beside the data: together at most 4096 bytes; defaults to none. */
            headers?: {
                [key: string]: string;
            } | null;
            /** @description The key of the signal that the message waits for; defaults to none. */
            hold?: string | null;
            /** @description The producer's own id, not all digits: a second message with the same id is not stored; defaults to none. */
            id?: string | null;
            /** @description The maximum number of attempts; defaults to the queue's setting. */
            max_attempts?: number | null;
            /** @description The name, which states the kind of message, and by which workers choose the handler; defaults to none. */
            name?: string | null;
            /** @description The priority: a message with a lower number, which may be negative, is leased first; defaults to 0. */
            priority?: number | null;
            /** @description How long one run may take: up to 7 days; defaults to the queue's setting. */
            timeout?: (number | string) | null;
            /**
             * @description The time after its post within which the message must start, up to 3,650 days, or it fails as expired; defaults to no
             *     limit.
             */
            ttl?: (number | string) | null;
        };
        /**
         * @description A schedule as a client or the configuration defines it.
         * @example {
         *       "cron": "30 9 * * mon-fri",
         *       "message": {
         *         "data": {
         *           "kind": "report"
         *         }
         *       },
         *       "timezone": "Europe/Berlin"
         *     }
         * @example {
         *       "every": "5m",
         *       "message": {
         *         "data": 1
         *       },
         *       "missed": "skip"
         *     }
         */
        NewSchedule: {
            /** @description A cron pattern of five fields, or of six fields with the seconds first. A schedule has either `cron` or `every`. */
            cron?: string | null;
            end_at?: components["schemas"]["Instant"] | null;
            /** @description The interval, counted from 1970: 1 s to 3,650 days. A schedule has either `every` or `cron`. */
            every?: (number | string) | null;
            /** @description The number of posted messages after which the schedule ends: 1 to 1,000,000,000; defaults to no limit. */
            max_runs?: number | null;
            /** @description A message to be posted. */
            message: {
                backoff?: null | {
                    delay?: null | (number | string);
                    jitter?: null | number;
                    max?: null | (number | string);
                    type?: null | ("fixed" | "exponential");
                };
                /** @description The payload: any JSON, stored unchanged. */
                data: unknown;
                /** @description The key of the message's group: the messages of a group are leased in order, and groups have turns; defaults to none. */
                group?: string | null;
                /** @description Headers that consumers see beside the data: together at most 4096 bytes; defaults to none. */
                headers?: {
                    [key: string]: string;
                } | null;
                /** @description The key of the signal that the message waits for; defaults to none. */
                hold?: string | null;
                /** @description The maximum number of attempts; defaults to the queue's setting. */
                max_attempts?: number | null;
                /** @description The name, which states the kind of message, and by which workers choose the handler; defaults to none. */
                name?: string | null;
                /** @description The priority: a message with a lower number, which may be negative, is leased first; defaults to 0. */
                priority?: number | null;
                /** @description How long one run may take: up to 7 days; defaults to the queue's setting. */
                timeout?: (number | string) | null;
                /**
                 * @description The time after its post within which the message must start, up to 3,650 days, or it fails as expired; defaults to no
                 *     limit.
                 */
                ttl?: (number | string) | null;
            };
            /** @description Defines what happens to ticks that no process could post in time; defaults to `one`. */
            missed?: ("skip" | "one" | "all") | null;
            /** @description How much later than the multiples of `every` the ticks are: less than `every`; defaults to 0. */
            offset?: (number | string) | null;
            /** @description Defines what happens to a tick while the message of an earlier tick is unfinished; defaults to `allow`. */
            overlap?: ("allow" | "skip") | null;
            start_at?: components["schemas"]["Instant"] | null;
            /** @description The time zone of the pattern; defaults to UTC. */
            timezone?: string | null;
        };
        /**
         * @description Defines what happens to a tick while the message of an earlier tick is unfinished.
         * @enum {string}
         */
        Overlap: "allow" | "skip";
        /** @description The parts of the error of an attempt. */
        Parts: {
            /** @description A word that programs match; `failed` if absent. A word longer than 128 bytes is cut. */
            code?: string | null;
            /** @description A sentence for people. A sentence longer than 8 KiB as JSON is cut, and then ends with … (cut). */
            message?: string | null;
        };
        /** @description The outcome of each message of a batch, in the order of the request. */
        PostedBatch: {
            messages: components["schemas"]["BatchEntry"][];
        };
        /** @description A posted message, and whether it existed before this post. */
        PostedMessage: components["schemas"]["Message"] & {
            /**
             * @description Present, and true, only if the message existed before this post.
             * @enum {boolean}
             */
            duplicate?: true;
        };
        /** @description The body of an error response, as RFC 9457 defines it. */
        Problem: {
            /** @description A word that a program can match. */
            code: string;
            /** @description The reason of the error, and advice on what to do, for people. */
            detail: string;
            /** @description The first mistake in a field that was found. */
            errors?: components["schemas"]["FieldError"][];
            /** @description With NDJSON, if Redis became unavailable: the range of the lines of which each may be stored or not. */
            in_doubt?: {
                /**
                 * Format: int64
                 * @description The number of the first line for which it is unknown whether the line was stored.
                 */
                from: number;
                /**
                 * Format: int64
                 * @description The number of the last line for which it is unknown whether the line was stored.
                 */
                to: number;
            };
            /** @description The id of the request, as in the header x-request-id and in the log. */
            request_id: string;
            /** @description With `forbidden`: the scope that the key lacks. */
            scope?: string;
            /** Format: int32 */
            status: number;
            /**
             * Format: int64
             * @description With NDJSON: the number of the line up to which every line was stored or refused. Send the lines after `stored_through`
             *     again.
             */
            stored_through?: number;
            title: string;
            type: string;
        };
        /** @description The effect of a purge. */
        Purged: {
            /**
             * Format: int64
             * @description The number of messages that were deleted.
             */
            purged: number;
        };
        /** @description The status of a queue. */
        Queue: {
            /** @description How many messages are in each state. */
            counts: {
                /**
                 * Format: int64
                 * @description The number of messages that are leased.
                 */
                active: number;
                /**
                 * Format: int64
                 * @description The number of completed messages that are still kept.
                 */
                completed: number;
                /**
                 * Format: int64
                 * @description The number of messages that are not due yet, or are in back-off.
                 */
                delayed: number;
                /**
                 * Format: int64
                 * @description The number of failed messages that are still kept.
                 */
                failed: number;
                /**
                 * Format: int64
                 * @description The number of messages that wait for a signal.
                 */
                held: number;
                /**
                 * Format: int64
                 * @description The number of messages that are ready.
                 */
                waiting: number;
            };
            /**
             * Format: int64
             * @description The time since the oldest ready message became ready, in milliseconds; null if no message is ready. Only some ready messages
             *     are compared: the head of the waiting list, the first message of another priority, and of the first messages of up to about
             *     1,000 groups the one that was posted first.
             */
            oldest_waiting_age: number | null;
            /** @description Whether the queue is paused. */
            paused: boolean;
            /** @description The queue's name. */
            queue: string;
            /**
             * Format: int64
             * @description How many schedules the queue has.
             */
            schedules: number;
            /** @description The queue's settings. */
            settings: components["schemas"]["Settings"];
            /** @description Totals of events since the queue was created. */
            totals: {
                /**
                 * Format: int64
                 * @description The number of messages that failed because they were cancelled.
                 */
                cancelled: number;
                /**
                 * Format: int64
                 * @description The number of messages that were completed.
                 */
                completed: number;
                /**
                 * Format: int64
                 * @description The number of messages that were stored.
                 */
                enqueued: number;
                /**
                 * Format: int64
                 * @description The number of messages that failed because they were not started in time.
                 */
                expired: number;
                /**
                 * Format: int64
                 * @description The number of messages that failed for good.
                 */
                failed: number;
                /**
                 * Format: int64
                 * @description The number of leases that lapsed.
                 */
                lapsed: number;
                /**
                 * Format: int64
                 * @description The number of failed attempts after which the message was retried.
                 */
                retried: number;
                /**
                 * Format: int64
                 * @description The number of messages that ticks of schedules posted.
                 */
                scheduled: number;
            };
        };
        /** @description A page of the queues that the API key may read. */
        Queues: {
            /** @description The cursor of the next page; absent on the last page. */
            next_cursor?: string;
            queues: components["schemas"]["Queue"][];
        };
        /** @description The response of `/readyz`. */
        Ready: {
            /** @description The topology of Redis: `server`, `sentinel` (the primary that Sentinels name) or `cluster`. */
            redis: string;
            /** @description Always `ready`. */
            status: string;
            /**
             * @description The settings of Redis with which messages may be lost, and the servers of a cluster that do not answer; absent if there
             *     are no warnings.
             */
            warnings?: string[];
        };
        /** @description The reason why an attempt failed: a text, or an object with the parts of the error. */
        Reason: string | components["schemas"]["Parts"];
        /**
         * @description A request for messages.
         * @example {
         *       "max": 10,
         *       "visibility_timeout": "30s"
         *     }
         */
        Receive: {
            /** @description The id of the consumer, from an earlier response. If absent, the consumer gets a new id. */
            consumer?: string | null;
            /** @description The maximum number of messages; 1 if absent. */
            max?: number | null;
            /** @description The time for which the leases last; if absent, the queue's setting `visibility_timeout`. */
            visibility_timeout?: (number | string) | null;
            wait?: components["schemas"]["Wait"] | null;
        };
        /** @description Messages with their leases. The list of messages is empty if no message came within the wait. */
        Received: {
            consumer: string;
            messages: components["schemas"]["LeasedMessage"][];
        };
        /** @description A line of an NDJSON body that was refused. */
        RefusedLine: {
            code: string;
            detail: string;
            errors?: components["schemas"]["FieldError"][];
            /**
             * Format: int64
             * @description The number of the refused line of the body. The first line of the body has the number 1.
             */
            line: number;
        };
        /**
         * @description Releases a message on which no attempt was made. The message returns to the head of the waiting list, or becomes delayed by
         *     `delay`, or held for the signal `hold`.
         */
        Release: {
            action?: components["schemas"]["ReleaseAction"] | null;
            /** @description The time until the message may be leased again; excludes `hold`; 0 if absent. */
            delay?: (number | string) | null;
            /**
             * @description The key of the signal that the message waits for; excludes `delay`. If an earlier sticky signal with the hold key still
             *     lasts, that signal releases the message at once.
             */
            hold?: string | null;
            lease: components["schemas"]["Lease"];
        };
        /** @enum {string} */
        ReleaseAction: "release";
        /** @description The effect of a signal. */
        Released: {
            /**
             * Format: int64
             * @description The number of held messages that the signal released.
             */
            released: number;
            sticky_until: components["schemas"]["Instant"] | null;
        };
        /** @description The effect of a retry of all failed messages. */
        Retried: {
            /**
             * Format: int64
             * @description The number of failed messages that the retry made ready.
             */
            retried: number;
        };
        /** @description The rule by which a schedule posts its message. A rule has either a cron pattern or an interval. */
        Rule: {
            /** @description The cron pattern, in the local time of `timezone`. */
            cron: string | null;
            end_at: components["schemas"]["Instant"] | null;
            /**
             * Format: int64
             * @description The interval, in milliseconds. The ticks are the multiples of the interval since 1970, plus `offset`.
             */
            every: number | null;
            /** @description The number of posted messages after which the schedule ends. */
            max_runs: number | null;
            /** @description Defines what happens to missed ticks. */
            missed: components["schemas"]["Missed"];
            /**
             * Format: int64
             * @description The offset of the ticks from the multiples of the interval, in milliseconds.
             */
            offset: number | null;
            /** @description Defines what happens to a tick while the message of an earlier tick is unfinished. */
            overlap: components["schemas"]["Overlap"];
            start_at: components["schemas"]["Instant"] | null;
            /** @description The time zone of the pattern. */
            timezone: string | null;
        };
        /** @description A schedule as clients read it. */
        Schedule: components["schemas"]["Rule"] & {
            /** @description Whether the configuration declared this definition of the schedule. */
            declared: boolean;
            last_at: components["schemas"]["Instant"] | null;
            /** @description The message of the newest tick that was posted. */
            last_message: string | null;
            /** @description A message to be posted. */
            message: {
                backoff?: null | {
                    delay?: null | (number | string);
                    jitter?: null | number;
                    max?: null | (number | string);
                    type?: null | ("fixed" | "exponential");
                };
                /** @description The payload: any JSON, stored unchanged. */
                data: unknown;
                /** @description The key of the message's group: the messages of a group are leased in order, and groups have turns; defaults to none. */
                group?: string | null;
                /** @description Headers that consumers see beside the data: together at most 4096 bytes; defaults to none. */
                headers?: {
                    [key: string]: string;
                } | null;
                /** @description The key of the signal that the message waits for; defaults to none. */
                hold?: string | null;
                /** @description The maximum number of attempts; defaults to the queue's setting. */
                max_attempts?: number | null;
                /** @description The name, which states the kind of message, and by which workers choose the handler; defaults to none. */
                name?: string | null;
                /** @description The priority: a message with a lower number, which may be negative, is leased first; defaults to 0. */
                priority?: number | null;
                /** @description How long one run may take: up to 7 days; defaults to the queue's setting. */
                timeout?: (number | string) | null;
                /**
                 * @description The time after its post within which the message must start, up to 3,650 days, or it fails as expired; defaults to no
                 *     limit.
                 */
                ttl?: (number | string) | null;
            };
            /** @description The schedule's name. */
            name: string;
            /** @description The next ticks, up to five; empty if the schedule is paused or has ended. */
            next_at: components["schemas"]["Instant"][];
            /** @description Whether the schedule is paused. */
            paused: boolean;
            /** @description The queue to which the schedule posts. */
            queue: string;
            /**
             * Format: int64
             * @description The number of messages that ticks of this definition have posted.
             */
            runs: number;
        };
        /** @description A page of schedules. */
        SchedulePage: {
            /** @description The cursor of the next page; absent on the last page. */
            next_cursor?: string;
            schedules: components["schemas"]["Schedule"][];
        };
        /**
         * @description All settings; durations in milliseconds
         * @example {
         *       "backoff": {
         *         "delay": 1000,
         *         "jitter": 0.2,
         *         "max": 3600000,
         *         "type": "exponential"
         *       },
         *       "exclusive": false,
         *       "groups": {
         *         "concurrency": 1
         *       },
         *       "id_window": 3600000,
         *       "idempotency_window": 3600000,
         *       "max_attempts": 3,
         *       "max_lapses": 3,
         *       "max_length": null,
         *       "rate_limit": null,
         *       "retention": {
         *         "completed": {
         *           "age": 86400000,
         *           "count": 10000,
         *           "min_age": 60000
         *         },
         *         "failed": {
         *           "age": 1209600000,
         *           "count": 100000,
         *           "min_age": 60000
         *         }
         *       },
         *       "timeout": null,
         *       "visibility_timeout": 30000
         *     }
         */
        Settings: {
            /** @description The pause before the next attempt; defaults to exponential from 1 s to at most 1 h, with a jitter of 0.2. */
            backoff: {
                /** @description The pause after the first failed attempt, up to 30 days; defaults to 1 s. */
                delay: number;
                /**
                 * Format: double
                 * @description The largest fraction by which the pause is shortened at random: from 0 to 1; defaults to 0.2. Random pauses keep messages
                 *     that failed together from being retried together.
                 */
                jitter: number;
                /** @description The longest pause, up to 30 days; defaults to 1 h. A longest pause that is shorter than `delay` counts as `delay`. */
                max: number;
                /**
                 * @description The growth of the pause from attempt to attempt; defaults to `exponential`.
                 * @enum {string}
                 */
                type: "fixed" | "exponential";
            };
            /** @description Whether only one consumer at a time has access to the queue; defaults to `false`. */
            exclusive: boolean | {
                /** @description The maximum number of messages that the owner works on at a time. */
                parallel: number;
            };
            /** @description How many messages of one group are active at a time. */
            groups: {
                /** @description How many messages of a group are active at a time: 1 to 1,000; null for no limit; defaults to 1. */
                concurrency: number | null;
            };
            /**
             * @description How long a producer's own id stays taken after its message has finished, even if the message is no longer kept: up to 30
             *     days; defaults to 1 h. With an `id_window` of 0 the producer's own id is free as soon as the message is no longer kept.
             */
            id_window: number;
            /** @description For how long an `Idempotency-Key` is remembered: 1 s to 30 days; defaults to 1 h. */
            idempotency_window: number;
            /** @description How many attempts a message has: 1 to 1,000; defaults to 3. */
            max_attempts: number;
            /** @description How many lapses make a message fail: 1 to 1,000; defaults to 3. */
            max_lapses: number;
            /** @description The maximum number of unfinished messages in the queue: 1 to 1,000,000,000; defaults to no limit. */
            max_length: number | null;
            /** @description The maximum number of leases in a window of time, over all consumers; defaults to no limit. */
            rate_limit: {
                /** @description The length of the window: 1 ms to 24 h. */
                duration: number;
                /** @description The maximum number of leases or requests: 1 to 1,000,000. */
                max: number;
            } | null;
            /** @description For how long finished messages are kept. */
            retention: {
                /** @description The retention of completed messages; defaults to 24 h and 10,000 messages. */
                completed: {
                    /** @description The maximum time that a message is kept, up to 3,650 days. */
                    age: number;
                    /**
                     * @description The maximum number of messages that are kept: up to 1,000,000,000. With a `count` of 0 a message is forgotten as soon as it has
                     *     finished.
                     */
                    count: number;
                    /** @description The minimum time that a message is kept, so that its result can be read: up to `age`; defaults to 60 s. */
                    min_age: number;
                };
                /** @description The retention of failed messages, the dead letters; defaults to 14 days and 100,000 messages. */
                failed: {
                    /** @description The maximum time that a message is kept, up to 3,650 days. */
                    age: number;
                    /**
                     * @description The maximum number of messages that are kept: up to 1,000,000,000. With a `count` of 0 a message is forgotten as soon as it has
                     *     finished.
                     */
                    count: number;
                    /** @description The minimum time that a message is kept, so that its result can be read: up to `age`; defaults to 60 s. */
                    min_age: number;
                };
            };
            /** @description How long one run may take before it counts as a failed attempt: 1 ms to 7 days; defaults to none. */
            timeout: number | null;
            /** @description How long a lease lasts unless it is extended: 100 ms to 24 h; defaults to 30 s. */
            visibility_timeout: number;
        };
        /**
         * @description A merge patch: a setting that it does not name stays, and a null restores the default
         * @example {
         *       "max_attempts": 5,
         *       "rate_limit": {
         *         "duration": "1s",
         *         "max": 100
         *       },
         *       "retention": {
         *         "failed": null
         *       }
         *     }
         */
        SettingsPatch: {
            /** @description null restores the default: {"delay":1000,"jitter":0.2,"max":3600000,"type":"exponential"} */
            backoff?: {
                /** @description null restores the default: 1000 */
                delay?: (number | string) | null;
                /** @description null restores the default: 0.2 */
                jitter?: number | null;
                /** @description null restores the default: 3600000 */
                max?: (number | string) | null;
                /** @description null restores the default: "exponential" */
                type?: ("fixed" | "exponential") | null;
            } | null;
            /** @description null restores the default: false */
            exclusive?: (boolean | {
                /** @description The maximum number of messages that the owner works on at a time. */
                parallel: number;
            }) | null;
            /** @description null restores the default: {"concurrency":1} */
            groups?: {
                /** @description How many messages of a group are active at a time: 1 to 1,000; null for no limit; defaults to 1. */
                concurrency?: number | null;
            } | null;
            /** @description null restores the default: 3600000 */
            id_window?: (number | string) | null;
            /** @description null restores the default: 3600000 */
            idempotency_window?: (number | string) | null;
            /** @description null restores the default: 3 */
            max_attempts?: number | null;
            /** @description null restores the default: 3 */
            max_lapses?: number | null;
            /** @description The maximum number of unfinished messages in the queue: 1 to 1,000,000,000; defaults to no limit. */
            max_length?: number | null;
            /** @description The maximum number of leases in a window of time, over all consumers; defaults to no limit. */
            rate_limit?: {
                /**
                 * @description The length of the window: 1 ms to 24 h.
                 * @example 2000
                 * @example 2s
                 */
                duration?: number | string;
                /** @description The maximum number of leases or requests: 1 to 1,000,000. */
                max?: number;
            } | null;
            /** @description null restores the default: {"completed":{"age":86400000,"count":10000,"min_age":60000},"failed":{"age":1209600000,"count":100000,"min_age":60000}} */
            retention?: {
                /** @description null restores the default: {"age":86400000,"count":10000,"min_age":60000} */
                completed?: {
                    /** @description null restores the default: 86400000 */
                    age?: (number | string) | null;
                    /** @description null restores the default: 10000 */
                    count?: number | null;
                    /** @description null restores the default: 60000 */
                    min_age?: (number | string) | null;
                } | null;
                /** @description null restores the default: {"age":1209600000,"count":100000,"min_age":60000} */
                failed?: {
                    /** @description null restores the default: 1209600000 */
                    age?: (number | string) | null;
                    /** @description null restores the default: 100000 */
                    count?: number | null;
                    /** @description null restores the default: 60000 */
                    min_age?: (number | string) | null;
                } | null;
            } | null;
            /** @description How long one run may take before it counts as a failed attempt: 1 ms to 7 days; defaults to none. */
            timeout?: (number | string) | null;
            /** @description null restores the default: 30000 */
            visibility_timeout?: (number | string) | null;
        };
        /**
         * @description Leases to settle or extend, each independently of the other leases.
         * @example {
         *       "settlements": [
         *         {
         *           "action": "complete",
         *           "lease": "21759559372713-mY9hV1Qb0mX3cG7n2sKk5A",
         *           "result": 1
         *         }
         *       ]
         *     }
         */
        Settle: {
            settlements: components["schemas"]["Settlement"][];
        };
        /** @description The settlement or the extension of one lease in a list. */
        Settlement: (components["schemas"]["Complete"] & {
            /** @enum {string} */
            action: "complete";
        }) | (components["schemas"]["Fail"] & {
            /** @enum {string} */
            action: "fail";
        }) | (components["schemas"]["Release"] & {
            /** @enum {string} */
            action: "release";
        }) | (components["schemas"]["Extend"] & {
            /** @enum {string} */
            action: "extend";
        });
        /**
         * @description A signal, which releases held messages.
         * @example {
         *       "data": {
         *         "amount": 12
         *       },
         *       "sticky_for": "1h"
         *     }
         */
        Signal: {
            /**
             * @description The data of the signal, which each released message shows as `signal`: any JSON up to 4096 bytes, because each message has
             *     a copy; defaults to no data.
             */
            data?: unknown;
            /** @description For how long messages that are posted after the signal are not held by its key: up to 30 days; defaults to no time. */
            sticky_for?: (number | string) | null;
        };
        /** @description A page of sticky signals. */
        SignalPage: {
            /** @description The cursor of the next page; absent on the last page. */
            next_cursor?: string;
            signals: components["schemas"]["StickySignal"][];
        };
        /**
         * @description The state of a message.
         * @enum {string}
         */
        State: "held" | "delayed" | "waiting" | "active" | "completed" | "failed";
        /** @description A sticky signal. */
        StickySignal: {
            /** @description The data of the signal, which each released message has in its field `signal`. */
            data: unknown;
            /**
             * Format: int64
             * @description The number of messages that are still held for the key, and that the signal will release.
             */
            held: number;
            /** @description The hold key of the signal, for which messages wait. */
            key: string;
            /** @description The instant until which newly posted messages with the key are not held. */
            sticky_until: components["schemas"]["Instant"];
        };
        /** @description The fields of one event of an event stream. */
        StreamedEvent: {
            /**
             * @description An object with the `id` of the message, the instant `at`, its `state`, and further members that depend on the kind of
             *     event.
             * @example {"id":"order-42","at":"2026-11-23T09:00:00.123Z","state":"waiting"}
             */
            data: string;
            /** @description The kind of event, or `reset` if events were missed. */
            event: string;
            /** @description The id of the event, for the header Last-Event-ID. */
            id?: string;
        };
        /**
         * @example 2000
         * @example 2s
         */
        Wait: number | string;
    };
    responses: never;
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type $defs = Record<string, never>;
export interface operations {
    read_key: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The rights of the key */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["KeyRights"];
                };
            };
        };
    };
    list_queues: {
        parameters: {
            query?: {
                /** @description List only queues whose names begin with this text. */
                prefix?: string;
                /** @description The maximum number of queues; 100 if absent. */
                limit?: number;
                /** @description The `next_cursor` of the previous page. */
                cursor?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page of the list */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Queues"];
                };
            };
        };
    };
    read_queue: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The name of the queue
                 * @example orders
                 */
                queue: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The status of the queue */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Queue"];
                };
            };
        };
    };
    delete_queue: {
        parameters: {
            query: {
                /** @description The name of the queue once more, as a confirmation: the deletion can't be undone. */
                confirm: string;
            };
            header?: never;
            path: {
                /**
                 * @description The name of the queue
                 * @example orders
                 */
                queue: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The queue is deleted */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    configure_queue: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The name of the queue
                 * @example orders
                 */
                queue: string;
            };
            cookie?: never;
        };
        /** @description The settings to change */
        requestBody: {
            content: {
                "application/json": components["schemas"]["SettingsPatch"];
                "application/merge-patch+json": components["schemas"]["SettingsPatch"];
            };
        };
        responses: {
            /** @description The status of the queue */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Queue"];
                };
            };
        };
    };
    listen: {
        parameters: {
            query?: {
                /**
                 * @description The id of a message: the stream has only the events of this message. The stream may be opened before the message is
                 *     posted.
                 */
                message?: string;
            };
            header?: {
                /** @description The last id that the stream sent: the stream continues after that event. An `EventSource` sends this header by itself */
                "Last-Event-ID"?: string;
            };
            path: {
                /**
                 * @description The name of the queue
                 * @example orders
                 */
                queue: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The events of the queue as a stream */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/event-stream": components["schemas"]["StreamedEvent"];
                };
            };
        };
    };
    receive: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The name of the queue
                 * @example orders
                 */
                queue: string;
            };
            cookie?: never;
        };
        /** @description The body may be absent */
        requestBody?: {
            content: {
                "application/json": components["schemas"]["Receive"];
            };
        };
        responses: {
            /** @description The leased messages */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Received"];
                };
            };
        };
    };
    complete_lease: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The name of the queue
                 * @example orders
                 */
                queue: string;
            };
            cookie?: never;
        };
        /** @description The lease to complete */
        requestBody: {
            content: {
                "application/json": components["schemas"]["Complete"];
            };
        };
        responses: {
            /** @description The outcome of the lease */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["LeaseResult"];
                };
            };
        };
    };
    extend_lease: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The name of the queue
                 * @example orders
                 */
                queue: string;
            };
            cookie?: never;
        };
        /** @description The lease to extend */
        requestBody: {
            content: {
                "application/json": components["schemas"]["Extend"];
            };
        };
        responses: {
            /** @description The outcome of the lease */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["LeaseResult"];
                };
            };
        };
    };
    fail_lease: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The name of the queue
                 * @example orders
                 */
                queue: string;
            };
            cookie?: never;
        };
        /** @description The lease whose attempt failed */
        requestBody: {
            content: {
                "application/json": components["schemas"]["Fail"];
            };
        };
        responses: {
            /** @description The outcome of the lease */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["LeaseResult"];
                };
            };
        };
    };
    release_lease: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The name of the queue
                 * @example orders
                 */
                queue: string;
            };
            cookie?: never;
        };
        /** @description The lease to release */
        requestBody: {
            content: {
                "application/json": components["schemas"]["Release"];
            };
        };
        responses: {
            /** @description The outcome of the lease */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["LeaseResult"];
                };
            };
        };
    };
    settle_leases: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The name of the queue
                 * @example orders
                 */
                queue: string;
            };
            cookie?: never;
        };
        /** @description The leases to settle or extend */
        requestBody: {
            content: {
                "application/json": components["schemas"]["Settle"];
            };
        };
        responses: {
            /** @description The outcome of each lease */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["LeaseResults"];
                };
            };
        };
    };
    list_messages: {
        parameters: {
            query?: {
                /** @description List the messages of this state only. */
                state?: components["schemas"]["State"];
                /**
                 * @description List only messages of this name. A page may have fewer messages than requested, or none, although more messages follow
                 *     at its `next_cursor`, because a page reads at most 1,000 messages to find messages of the name.
                 */
                name?: string;
                /** @description List only held messages that wait for a signal with this key. With `hold`, `state` must be `held` or absent. */
                hold?: string;
                /**
                 * @description List only messages of this group. For messages that are not waiting, a page reads at most 1,000 messages, as with
                 *     `name`.
                 */
                group?: string;
                /** @description The maximum number of messages; 50 if absent. */
                limit?: number;
                /** @description The `next_cursor` of the previous page. */
                cursor?: string;
            };
            header?: never;
            path: {
                /**
                 * @description The name of the queue
                 * @example orders
                 */
                queue: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page of the list */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["MessagePage"];
                };
            };
        };
    };
    post_message: {
        parameters: {
            query?: {
                /** @description The time to wait until the message has completed or failed. Without `wait`, the response comes at once. */
                wait?: components["schemas"]["Wait"];
            };
            header?: {
                /** @description A random key for this request. If the same request is sent again with the same key, it stores nothing more. 1 to 255 visible ASCII characters, bare or in quotes; not with NDJSON */
                "Idempotency-Key"?: string;
            };
            path: {
                /**
                 * @description The name of the queue
                 * @example orders
                 */
                queue: string;
            };
            cookie?: never;
        };
        /** @description The message to post */
        requestBody: {
            content: {
                "application/json": components["schemas"]["NewMessage"];
            };
        };
        responses: {
            /** @description A message with the id exists already, or an earlier request had the same Idempotency-Key; nothing was changed */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["DuplicateMessage"];
                };
            };
            /** @description The message is stored */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["PostedMessage"];
                };
            };
        };
    };
    post_messages: {
        parameters: {
            query?: never;
            header?: {
                /** @description A random key for this request. If the same request is sent again with the same key, it stores nothing more. 1 to 255 visible ASCII characters, bare or in quotes; not with NDJSON */
                "Idempotency-Key"?: string;
            };
            path: {
                /**
                 * @description The name of the queue
                 * @example orders
                 */
                queue: string;
            };
            cookie?: never;
        };
        /** @description The messages to post. An NDJSON body has any number of lines, each with one NewMessage; empty lines are skipped */
        requestBody: {
            content: {
                "application/json": components["schemas"]["NewBatch"];
                /**
                 * @example {"data":1}
                 *     {"data":2,"id":"order-43"}
                 */
                "application/x-ndjson": string;
            };
        };
        responses: {
            /** @description Each message of a JSON body existed already; for an NDJSON body, the outcome of its lines */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["BatchOrLines"];
                };
            };
            /** @description All messages are stored; the response has an entry for each message */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["PostedBatch"];
                };
            };
        };
    };
    read_message: {
        parameters: {
            query?: {
                /** @description The time to wait until the message has completed or failed. Without `wait`, the response comes at once. */
                wait?: components["schemas"]["Wait"];
            };
            header?: never;
            path: {
                /**
                 * @description The name of the queue
                 * @example orders
                 */
                queue: string;
                /**
                 * @description The id of the message: Drover's, or the producer's own
                 * @example 21759559372713
                 */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The message that the path names */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Message"];
                };
            };
        };
    };
    erase_message: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The name of the queue
                 * @example orders
                 */
                queue: string;
                /**
                 * @description The id of the message: Drover's, or the producer's own
                 * @example 21759559372713
                 */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The message is deleted */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    patch_message: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The name of the queue
                 * @example orders
                 */
                queue: string;
                /**
                 * @description The id of the message: Drover's, or the producer's own
                 * @example 21759559372713
                 */
                id: string;
            };
            cookie?: never;
        };
        /** @description The changes of the message */
        requestBody: {
            content: {
                "application/json": components["schemas"]["MessagePatch"];
                "application/merge-patch+json": components["schemas"]["MessagePatch"];
            };
        };
        responses: {
            /** @description The message after the change */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ChangedMessage"];
                };
            };
        };
    };
    cancel_message: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The name of the queue
                 * @example orders
                 */
                queue: string;
                /**
                 * @description The id of the message: Drover's, or the producer's own
                 * @example 21759559372713
                 */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The message is cancelled */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ChangedMessage"];
                };
            };
            /** @description The message is active, and its consumer is told to stop */
            202: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ChangedMessage"];
                };
            };
        };
    };
    promote_message: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The name of the queue
                 * @example orders
                 */
                queue: string;
                /**
                 * @description The id of the message: Drover's, or the producer's own
                 * @example 21759559372713
                 */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The message is ready */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ChangedMessage"];
                };
            };
        };
    };
    retry_message: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The name of the queue
                 * @example orders
                 */
                queue: string;
                /**
                 * @description The id of the message: Drover's, or the producer's own
                 * @example 21759559372713
                 */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The message is ready */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ChangedMessage"];
                };
            };
        };
    };
    pause_queue: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The name of the queue
                 * @example orders
                 */
                queue: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The status of the queue */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Queue"];
                };
            };
        };
    };
    purge_queue: {
        parameters: {
            query: {
                /** @description The state of the messages to delete. Active messages are not purged. */
                state: "held" | "delayed" | "waiting" | "completed" | "failed";
            };
            header?: never;
            path: {
                /**
                 * @description The name of the queue
                 * @example orders
                 */
                queue: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The number of deleted messages */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Purged"];
                };
            };
        };
    };
    resume_queue: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The name of the queue
                 * @example orders
                 */
                queue: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The status of the queue */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Queue"];
                };
            };
        };
    };
    retry_failed: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The name of the queue
                 * @example orders
                 */
                queue: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The number of messages that are ready again */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Retried"];
                };
            };
        };
    };
    list_schedules: {
        parameters: {
            query?: {
                /** @description The maximum number of schedules; 50 if absent. */
                limit?: number;
                /** @description The `next_cursor` of the previous page. */
                cursor?: string;
            };
            header?: never;
            path: {
                /**
                 * @description The name of the queue
                 * @example orders
                 */
                queue: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page of the list */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["SchedulePage"];
                };
            };
        };
    };
    read_schedule: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The name of the queue
                 * @example orders
                 */
                queue: string;
                /**
                 * @description The name of the schedule
                 * @example report
                 */
                name: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The schedule */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Schedule"];
                };
            };
        };
    };
    put_schedule: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The name of the queue
                 * @example orders
                 */
                queue: string;
                /**
                 * @description The name of the schedule
                 * @example report
                 */
                name: string;
            };
            cookie?: never;
        };
        /** @description The definition of the schedule */
        requestBody: {
            content: {
                "application/json": components["schemas"]["NewSchedule"];
            };
        };
        responses: {
            /** @description The schedule existed already, and has the definition of the request */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Schedule"];
                };
            };
            /** @description The schedule was created */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Schedule"];
                };
            };
        };
    };
    delete_schedule: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The name of the queue
                 * @example orders
                 */
                queue: string;
                /**
                 * @description The name of the schedule
                 * @example report
                 */
                name: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The schedule is deleted */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    pause_schedule: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The name of the queue
                 * @example orders
                 */
                queue: string;
                /**
                 * @description The name of the schedule
                 * @example report
                 */
                name: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The schedule */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Schedule"];
                };
            };
        };
    };
    resume_schedule: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The name of the queue
                 * @example orders
                 */
                queue: string;
                /**
                 * @description The name of the schedule
                 * @example report
                 */
                name: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The schedule */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Schedule"];
                };
            };
        };
    };
    run_schedule: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The name of the queue
                 * @example orders
                 */
                queue: string;
                /**
                 * @description The name of the schedule
                 * @example report
                 */
                name: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The message is stored */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Message"];
                };
            };
        };
    };
    list_signals: {
        parameters: {
            query?: {
                /** @description The maximum number of signals; 50 if absent. */
                limit?: number;
                /** @description The `next_cursor` of the previous page. */
                cursor?: string;
            };
            header?: never;
            path: {
                /**
                 * @description The name of the queue
                 * @example orders
                 */
                queue: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page of the list */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["SignalPage"];
                };
            };
        };
    };
    read_signal: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The name of the queue
                 * @example orders
                 */
                queue: string;
                /**
                 * @description The key of the signal that messages wait for
                 * @example paid:42
                 */
                key: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The sticky signal */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["StickySignal"];
                };
            };
        };
    };
    send_signal: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The name of the queue
                 * @example orders
                 */
                queue: string;
                /**
                 * @description The key of the signal that messages wait for
                 * @example paid:42
                 */
                key: string;
            };
            cookie?: never;
        };
        /** @description The body may be absent */
        requestBody?: {
            content: {
                "application/json": components["schemas"]["Signal"];
            };
        };
        responses: {
            /** @description The signal is sent */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Released"];
                };
            };
        };
    };
    forget_signal: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The name of the queue
                 * @example orders
                 */
                queue: string;
                /**
                 * @description The key of the signal that messages wait for
                 * @example paid:42
                 */
                key: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The signal is forgotten */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
}
