/** The type of an event emitter with typed events, the same for all versions of Node's types. */
import { EventEmitter } from "node:events";

type Listener<Events, E extends keyof Events> = (...args: Events[E] extends unknown[] ? Events[E] : never) => void;

/** Node's event emitter, in which each event has the arguments that `Events` lists for the event. */
export interface TypedEmitter<Events> {
    on<E extends keyof Events>(event: E, listener: Listener<Events, E>): this;
    once<E extends keyof Events>(event: E, listener: Listener<Events, E>): this;
    off<E extends keyof Events>(event: E, listener: Listener<Events, E>): this;
    addListener<E extends keyof Events>(event: E, listener: Listener<Events, E>): this;
    removeListener<E extends keyof Events>(event: E, listener: Listener<Events, E>): this;
    prependListener<E extends keyof Events>(event: E, listener: Listener<Events, E>): this;
    prependOnceListener<E extends keyof Events>(event: E, listener: Listener<Events, E>): this;
    removeAllListeners(event?: keyof Events): this;
    emit<E extends keyof Events>(event: E, ...args: Events[E] extends unknown[] ? Events[E] : never): boolean;
    listenerCount(event: keyof Events): number;
    listeners(event: keyof Events): Function[];
    rawListeners(event: keyof Events): Function[];
    eventNames(): (string | symbol)[];
    setMaxListeners(count: number): this;
    getMaxListeners(): number;
}

export const Emitter = EventEmitter as unknown as new <Events>(options?: { captureRejections?: boolean }) => TypedEmitter<Events>;
