"""What waits in one process for the names that are read in it, who waits for it, and who is called for it."""

import logging
import time
from collections import OrderedDict

from cpython.ref cimport Py_XDECREF

from fastchannels._core.msgpack cimport unpacked
from fastchannels._core.queue cimport Queue, Receiver, SharedPayload, entry
from fastchannels._core.wake cimport DONE, PENDING, ThreadWaiter, Waiter, current_loop, running_loop

cdef object logger = logging.getLogger("fastchannels.layer")

# Closed names that are remembered, at most: past it the oldest is forgotten, and a late message for it waits unread
# until it expires.
cdef Py_ssize_t MAX_CLOSED = 65536

cdef enum:
    TAKEN, FULL, EXPIRED, CLOSED


def _wake_here(Waiter waiter):
    if waiter.state == PENDING:
        waiter.settle(DONE, None)


cdef class Inbox:
    """Bounded queues by name, the readers that wait for them, and the receivers that are called for them.

    A message waits for ``expiry`` seconds of ``clock`` and is never handed out afterwards. A name holds up to
    ``capacity_of(name)`` messages, asked once while the name is known. ``decode`` makes the message that a receiver
    or a reader by :meth:`take` gets; when it returns None the message is dropped, and ``decode`` has counted and reported
    it. ``native``: payloads are MessagePack, and ``decode`` is only asked about those that cannot be read.

    Rules:

    1. *Waiters are wake-ups.* A message stays in its queue until :meth:`get` takes it, so cancelling a wait anywhere
       loses nothing. Whoever called :meth:`wait` calls :meth:`unwait` afterwards, whatever happened: it passes a
       wake-up that was not used on to the next waiter.
    2. *Receivers run on the loop that attached them*, one message at a time and in order, also when a receiver puts on
       its own name. A put on that loop calls the receiver before it returns; one from elsewhere schedules the call.
    3. *Any thread may call any method*, but for ``attach``, which needs a running loop. The state is guarded by the
       interpreter lock: between looking at a queue and changing it no Python code runs, and a queue that was dropped
       meanwhile says so (``dead``) and is looked up again. Receivers, hooks, ``capacity_of``, ``decode`` and ``clock``
       are called outside such stretches.
    4. *A name is known* while it is attached, waited for, or holds messages; a closed one is remembered for ``expiry``
       seconds so that late messages are dropped at once (D-40).

    ``on_full(name)`` and ``on_room(name)``, when set, tell the store that a name reached its capacity and that it has
    room again (D-39). An exception in them or in a receiver is logged and stops nothing else.
    """

    def __cinit__(self, *, capacity_of, double expiry, decode, clock=time.monotonic, bint native=False):
        self._capacity_of = capacity_of
        self._native = native
        self._decode = decode
        self._clock = clock
        self.expiry = expiry
        self._queues = {}
        self._pending = {}
        self._closed = OrderedDict()
        self._purge_every = min(expiry / 2, 10.0)
        self._purge_at = <double> clock() + self._purge_every

    # ---------------------------------------------------------------- putting

    def put(self, channel, bytes payload not None, double age=0.0):
        """Add a message that is ``age`` seconds old. False: dropped and counted ("full", "expired" or "closed")."""
        cdef int outcome = self._put(channel, payload, age, None, True, self._clock())
        if outcome == FULL:
            self._full += 1
        return outcome == TAKEN

    def offer(self, channel, bytes payload not None):
        """:meth:`put` for a sender who is told: False when the name is full, which is not counted as a drop here."""
        return self._put(channel, payload, 0.0, None, True, self._clock()) != FULL

    def admit(self, channel, bytes payload not None, double age=0.0):
        """:meth:`put` for a message whose sender was told that it is stored: it may overshoot the capacity (D-39)."""
        return self._put(channel, payload, age, None, False, self._clock()) == TAKEN

    def fan_out(self, channels, bytes payload not None, double age=0.0, exclude=()):
        """Put one message on each of ``channels`` but those in ``exclude``, a container.

        Returns how many were full, for the caller to count and report.

        The message is decoded once for all receivers: they share one dict and must not change it.
        """
        cdef Py_ssize_t full = 0
        cdef double now = self._clock()
        cdef SharedPayload shared = SharedPayload(payload)
        cdef bint all_of_them = not exclude
        loop = running_loop()
        # HOT: benchmarks/bench_inbox.py
        for channel in channels:
            if not all_of_them and channel in exclude:
                continue
            if self._put(channel, shared, age, loop, True, now) == FULL:
                full += 1
        return full

    # HOT: benchmarks/layers.py
    cdef int _put(self, object channel, object item, double age, object loop, bint bounded, double now) except -1:
        """``loop``: the running one, or None when it is not known; ``now`` by the clock, at most a little while ago."""
        cdef Queue queue
        if age >= self.expiry:
            self._expired += 1
            return EXPIRED
        age = max(age, 0.0)
        while True:
            queue = self._queues.get(channel)
            if queue is None:
                queue = self._open(channel, False)
                if queue is None:
                    self._shut += 1
                    return CLOSED
            if (
                queue.receiver is not None and not queue.paused and not queue.delivering
                and queue.loop is (loop if loop is not None else running_loop())
            ):
                if queue.size:
                    self._drain(queue)
                if queue.receiver is not None and queue.size == 0 and not queue.paused:
                    self._received += 1
                    message = self._message(item)
                    if message is not None:
                        queue.delivering = True
                        try:
                            self._call(queue, message, type(item) is SharedPayload)
                        finally:
                            queue.delivering = False
                        if queue.size:
                            self._drain(queue)
                    return TAKEN
            if queue.ahead is not None and self._goes_ahead(queue, item, loop):
                return TAKEN
            if now >= self._purge_at:
                self.purge()
            if queue.size >= queue.capacity:
                self._forget_expired_head(queue, now)
                if queue.marked:
                    self._note_room(queue)
            if queue.dead:
                continue
            if bounded and queue.size >= queue.capacity:
                return FULL
            queue.push(item, now + self.expiry - age)
            self._unread += 1
            self._received += 1
            break
        if queue.waiters:
            self._wake(queue, loop)
        if queue.receiver is not None and not queue.paused and not queue.delivering:
            self._schedule(queue)
        if queue.size >= queue.capacity and not queue.marked:
            queue.marked = True
            if self.on_full is not None:
                self._notify(self.on_full, channel)
        return TAKEN

    cdef Queue _open(self, object channel, bint reopen):
        """The queue of ``channel``, made when it is not known; None for a closed name, unless it is to be reopened."""
        cdef Queue queue = self._queues.get(channel)
        if queue is not None:
            return queue
        if reopen:
            self._closed.pop(channel, None)
        elif channel in self._closed:
            return None
        queue = Queue(channel, self._capacity_of(channel))
        # Another thread may have been first while capacity_of ran.
        return self._queues.setdefault(channel, queue)

    # ---------------------------------------------------------------- taking

    cpdef object get(self, channel):
        """The payload of the next message of ``channel`` that has not expired, or None."""
        cdef Queue queue = self._queues.get(channel)
        if queue is None or queue.size == 0:
            return None
        item = self._take(queue, self._clock())
        if queue.marked:
            self._note_room(queue)
        if item is None:
            return None
        return (<SharedPayload> item).payload if type(item) is SharedPayload else item

    # HOT: benchmarks/layers.py
    cpdef object take(self, channel):
        """The next message of ``channel`` that has not expired and can be decoded, as a dict of the caller's own; or None.

        It counts as delivered.
        """
        cdef Queue queue = self._queues.get(channel)
        while queue is not None and queue.size:
            item = self._take(queue, self._clock())
            if queue.marked:
                self._note_room(queue)
            if item is None:
                return None
            if queue.ahead is not None and queue.loop is running_loop() and self._give_ahead(queue, item):
                continue
            message = self._decoded(item) if type(item) is bytes else self._message_of_own(item)
            if message is not None:
                self._delivered += 1
                return message
        return None

    cdef object _take(self, Queue queue, double now):
        cdef double deadline = 0
        while queue.size:
            item = queue.pop(&deadline)
            self._unread -= 1
            if deadline > now:
                return item
            self._expired += 1
        return None

    cdef int _forget_expired_head(self, Queue queue, double now) except -1:
        cdef double deadline = 0
        while queue.size and queue.entries[queue.head].deadline <= now:
            queue.pop(&deadline)
            self._unread -= 1
            self._expired += 1
        return 0

    def wait(self, channel):
        """A waiter of the running loop that is done when ``channel`` may have a message. First come, first woken."""
        waiter = Waiter(current_loop())
        self._register(channel, waiter)
        return waiter

    def waiters(self):
        """Everything on event loops that waits now."""
        cdef Queue queue
        found = []
        for queue in list(self._queues.values()):
            if queue.waiters:
                found += [waiter for waiter in list(queue.waiters) if type(waiter) is not ThreadWaiter]
        return found

    cpdef unwait(self, channel, waiter):
        """End :meth:`wait`. A wake-up that left the message where it is goes to the next waiter."""
        cdef Queue queue = self._queues.get(channel)
        if queue is not None and queue.waiters is not None:
            self._release(queue, waiter)

    def wait_any(self, channels):
        """A :class:`ThreadWaiter` that is woken when any of ``channels`` may have a message."""
        waiter = ThreadWaiter()
        for channel in channels:
            self._register(channel, waiter)
        return waiter

    def unwait_any(self, channels, waiter):
        """End :meth:`wait_any`."""
        for channel in channels:
            self.unwait(channel, waiter)

    cdef int _register(self, object channel, object waiter) except -1:
        cdef Queue queue
        while True:
            queue = self._open(channel, True)
            if queue.waiters is None:
                queue.woken = {}
                queue.waiters = {}
            queue.waiters[waiter] = None
            # Asked after the waiter is in: from here on the name is watched and nobody drops its queue.
            if not queue.dead:
                break
        # A put from another thread may have come between the caller's get and this.
        self._wake(queue, None)
        return 0

    cdef int _release(self, Queue queue, object waiter) except -1:
        queue.woken.pop(waiter, None)
        queue.waiters.pop(waiter, None)
        if queue.waiters:
            self._wake(queue, None)
        return 0

    cdef int _wake(self, Queue queue, object here) except -1:
        """Wake as many waiters as there are messages that nobody was woken for. ``here``: the running loop, if known."""
        while queue.waiters and queue.size > len(queue.woken):
            # Making the iterator may run the collector, and so a finaliser that ends a wait.
            waiter = next(iter(queue.waiters), None)
            if waiter is None or queue.waiters.pop(waiter, waiter) is waiter:
                continue
            if type(waiter) is ThreadWaiter:
                queue.woken[waiter] = None
                (<ThreadWaiter> waiter).wake()
                continue
            if (<Waiter> waiter).state != PENDING:  # cancelled; its unwait is on the way
                continue
            queue.woken[waiter] = None
            loop = (<Waiter> waiter)._loop
            if loop is here or loop is running_loop():
                (<Waiter> waiter).settle(DONE, None)
                continue
            try:
                loop.call_soon_threadsafe(_wake_here, waiter)
            except RuntimeError:  # that loop is closed
                queue.woken.pop(waiter, None)
        return 0

    # ---------------------------------------------------------------- receivers

    def attach(self, channel, receiver):
        """Call ``receiver(message)`` on the running loop for each message of ``channel``, those that wait first."""
        cdef Queue queue
        loop = current_loop()
        while True:
            queue = self._open(channel, True)
            queue.loop = loop
            queue.receiver = receiver
            if not queue.dead:
                break
        if queue.size and not queue.paused and not queue.delivering:
            self._drain(queue)

    def attach_ahead(self, channel, Receiver receiver):
        """Have ``receiver`` look at each message of ``channel``, on the running loop, before its reader would get it.

        What it takes no reader sees; what it leaves goes to the reader. What comes before the reader is done with the
        last one, which shows when it asks for the next, waits until then. It ends with :meth:`close`, and by None.
        """
        cdef Queue queue
        loop = current_loop()
        while True:
            queue = self._open(channel, True)
            queue.loop = loop
            queue.ahead = receiver
            if not queue.dead:
                break

    def pause(self, channel):
        """Let messages of ``channel`` wait, up to its capacity."""
        cdef Queue queue = self._queues.get(channel)
        if queue is not None:
            queue.paused = True

    def resume(self, channel):
        """End :meth:`pause`: what waits is delivered first, as far as no receiver pauses again."""
        cdef Queue queue = self._queues.get(channel)
        if queue is None or not queue.paused:
            return
        queue.paused = False
        if queue.receiver is None or queue.size == 0 or queue.delivering:
            return
        if queue.loop is running_loop():
            self._drain(queue)
        else:
            self._schedule(queue)

    def close(self, channel):
        """End :meth:`attach`; what waits and what still comes for ``channel`` is dropped and counted.

        While a reader waits for the name it stays open to that reader.
        """
        cdef Queue queue = self._queues.get(channel)
        cdef double deadline = 0
        cdef double now = self._clock()
        if queue is not None:
            queue.receiver = queue.ahead = None
            queue.loop = None
            queue.paused = False
            while queue.size:
                queue.pop(&deadline)
                self._unread -= 1
                self._shut += 1
            if queue.marked:
                self._note_room(queue)
            if queue.watched():
                return
            queue.dead = True
            self._queues.pop(channel, None)
        self._closed[channel] = now + self.expiry
        self._closed.move_to_end(channel)
        self._trim_closed(now)

    def is_closed(self, channel):
        """Whether ``channel`` was closed less than ``expiry`` seconds ago and not opened again."""
        return channel in self._closed

    def is_watched(self, channel):
        """Whether ``channel`` is attached or being waited for."""
        cdef Queue queue = self._queues.get(channel)
        return queue is not None and queue.watched()

    def watched(self):
        """The names that are attached or being waited for."""
        cdef Queue queue
        return [queue.name for queue in list(self._queues.values()) if queue.watched()]

    cdef object _decoded(self, bytes payload):
        """None when it cannot be decoded."""
        if self._native:
            try:
                message = unpacked(payload)
                if type(message) is dict:
                    return message
            except ValueError:
                pass
        return self._decode(payload)

    cdef object _message(self, object item):
        """For a receiver."""
        cdef SharedPayload shared
        if type(item) is not SharedPayload:
            return self._decoded(item)
        shared = item
        if not shared.decoded:
            shared.message = self._decoded(shared.payload)
            shared.decoded = True
        return shared.message

    cdef object _message_of_own(self, object item):
        """For a reader, who may change it."""
        cdef SharedPayload shared = item
        if shared.pattern is not None:
            return shared.pattern.copy()
        message = self._decoded(shared.payload)
        if shared.nested or message is None:
            return message
        if not shared.read:
            # A lone reader needs no pattern.
            shared.read = True
            return message
        for value in (<dict> message).values():
            kind = type(value)
            if not (kind is str or kind is int or kind is float or kind is bool or kind is bytes or value is None):
                shared.nested = True
                return message
        shared.pattern = message
        return shared.pattern.copy()

    cdef int _call(self, Queue queue, object message, bint shared) except -1:
        self._delivered += 1
        try:
            if isinstance(queue.receiver, Receiver):
                (<Receiver> queue.receiver).deliver(message, shared)
            else:
                queue.receiver(message)
        except Exception:
            logger.exception("the receiver of channel %r failed", queue.name)
        except BaseException:
            # Leaves through the caller, who delivers nothing more: the rest of the queue needs a call of its own.
            if queue.size and queue.receiver is not None:
                self._schedule(queue)
            raise
        return 0

    cdef bint _goes_ahead(self, Queue queue, object item, object loop) except -1:
        """Whether ``queue.ahead`` took what is being put. It is asked while the reader waits: nothing is overtaken."""
        if queue.size or not queue.waiters or queue.woken:
            return False
        if queue.loop is not (loop if loop is not None else running_loop()) or not self._give_ahead(queue, item):
            return False
        self._received += 1
        return True

    cdef bint _give_ahead(self, Queue queue, object item) except -1:
        message = self._message(item)
        try:
            if message is None or not queue.ahead.deliver(message, type(item) is SharedPayload):
                return False
        except Exception:
            logger.exception("what goes ahead of the readers of channel %r failed", queue.name)
            return False
        self._delivered += 1
        return True

    cdef int _drain(self, Queue queue) except -1:
        """Deliver what waits on an attached name. Runs on the loop of its receiver, never inside itself."""
        cdef double now = self._clock()
        queue.delivering = True
        try:
            while queue.size and not queue.paused and queue.receiver is not None:
                item = self._take(queue, now)
                if item is None:
                    break
                message = self._message(item)
                if message is not None and queue.receiver is not None:
                    self._call(queue, message, type(item) is SharedPayload)
        finally:
            # Nothing runs between the last look at queue.size and this line, so a put from another thread either was
            # seen or schedules a drain of its own.
            queue.delivering = False
        if queue.marked:
            self._note_room(queue)
        return 0

    cdef int _schedule(self, Queue queue) except -1:
        """Have the queue drained by the loop of its receiver; queues of one burst share one call."""
        cdef list waiting
        if queue.scheduled:
            return 0
        queue.scheduled = True
        loop = queue.loop
        fresh = []
        waiting = self._pending.setdefault(loop, fresh)
        waiting.append(queue)
        if waiting is not fresh:
            return 0
        try:
            loop.call_soon_threadsafe(self._drain_scheduled, loop)
        except RuntimeError:
            # That loop is closed and its receivers are gone with it: the messages wait until they expire.
            for queue in self._pending.pop(loop, ()):
                queue.scheduled = False
                if queue.loop is loop:
                    queue.receiver = None
                    queue.loop = None
        return 0

    def _drain_scheduled(self, loop):
        cdef Queue queue
        for queue in self._pending.pop(loop, ()):
            queue.scheduled = False
            if queue.receiver is None or queue.paused or queue.delivering or queue.size == 0:
                continue
            if queue.loop is loop:
                self._drain(queue)
            else:
                self._schedule(queue)

    # ---------------------------------------------------------------- upkeep

    cdef int _note_room(self, Queue queue) except -1:
        if queue.marked and queue.size < queue.capacity:
            queue.marked = False
            if self.on_room is not None:
                self._notify(self.on_room, queue.name)
        return 0

    cdef int _notify(self, object hook, object channel) except -1:
        try:
            hook(channel)
        except Exception:
            logger.exception("the capacity of channel %r could not be told to the store", channel)
        return 0

    def _trim_closed(self, double now):
        closed = self._closed
        while closed:
            name = next(iter(closed), None)
            if name is None or (len(closed) <= MAX_CLOSED and closed.get(name, now) > now):
                return
            closed.pop(name, None)

    def purge(self):
        """Drop what expired and forget names that hold nothing and that nobody reads. Puts run it now and then."""
        cdef Queue queue
        cdef entry slot
        cdef Py_ssize_t index, kept
        cdef double now = self._clock()
        self._purge_at = now + self._purge_every
        for queue in list(self._queues.values()):
            # Entries of different ages need not stand in the order of their deadlines: look at each one.
            kept = 0
            for index in range(queue.size):
                slot = queue.entries[(queue.head + index) & (queue.room - 1)]
                if slot.deadline > now:
                    queue.entries[(queue.head + kept) & (queue.room - 1)] = slot
                    kept += 1
                else:
                    self._unread -= 1
                    self._expired += 1
                    Py_XDECREF(slot.item)
            queue.size = kept
            if queue.marked:
                self._note_room(queue)
            if queue.size == 0 and not queue.watched():
                queue.dead = True
                self._queues.pop(queue.name, None)
        self._trim_closed(now)

    def clear(self):
        """Drop every message, and forget which names were closed. Readers and receivers stay."""
        cdef Queue queue
        cdef double deadline = 0
        for queue in list(self._queues.values()):
            while queue.size:
                queue.pop(&deadline)
                self._unread -= 1
            if queue.marked:
                self._note_room(queue)
            if not queue.watched():
                queue.dead = True
                self._queues.pop(queue.name, None)
        self._closed.clear()

    def unread(self, channel):
        """Messages that wait on ``channel``."""
        cdef Queue queue = self._queues.get(channel)
        if queue is None:
            return 0
        if queue.size:
            self._forget_expired_head(queue, self._clock())
            if queue.marked:
                self._note_room(queue)
        return queue.size

    def held(self, prefix):
        """The names that start with ``prefix`` and hold messages. Looks at every known name."""
        cdef Queue queue
        return [queue.name for queue in list(self._queues.values()) if queue.size and queue.name.startswith(prefix)]

    def age(self, channel):
        """Seconds that the next message of ``channel`` has waited since it was sent, 0 when there is none."""
        cdef Queue queue = self._queues.get(channel)
        cdef double now = self._clock()
        if queue is None:
            return 0.0
        self._forget_expired_head(queue, now)
        if queue.marked:
            self._note_room(queue)
        return max(0.0, now + self.expiry - queue.entries[queue.head].deadline) if queue.size else 0.0

    def counts(self):
        """Since start: messages "received", "delivered" to receivers or by :meth:`take`, dropped as "full", "expired" or "closed".

        "pending" is the number that waits now.
        """
        return {
            "received": self._received,
            "delivered": self._delivered,
            "full": self._full,
            "expired": self._expired,
            "closed": self._shut,
            "pending": self._unread,
        }

    def __len__(self):
        return len(self._queues)
