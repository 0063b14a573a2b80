//! The input: what its readers should do, what they do, and its end.

use std::time::Duration;

use futures::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};

/// State of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// It has subscribed, but the server has not confirmed it.
    Joining,
    /// It receives frames.
    Reading,
    /// It leaves the frames to the other members of the queue group.
    Paused,
    /// It receives no more frames.
    Stopped,
}

/// Controls the input and reads its state.
#[derive(Debug, Clone)]
pub struct InputSwitch {
    wanted: watch::Sender<Input>,
    /// Of each reader of frames.
    states: Vec<watch::Receiver<InputState>>,
    /// Of readers that read only while something is so.
    gated: Vec<(watch::Receiver<bool>, watch::Receiver<InputState>)>,
    /// Of readers without which frames arrive all the same.
    beside: Vec<watch::Receiver<InputState>>,
}

/// State of the input, and the error text of the server where it refuses the subscription.
pub(super) type InputState = (Input, Option<String>);

impl InputSwitch {
    /// Leaves the queue group, or joins it again. Messages already sent to this member are still read.
    pub fn pause(&self, pause: bool) {
        self.want(if pause { Input::Paused } else { Input::Reading });
    }

    /// The current state: `Reading` only once the server has confirmed every subscription; one beside the
    /// frames may be refused.
    pub fn state(&self) -> Input {
        let wanted = *self.wanted.borrow();
        let beside = self.beside.iter().filter(|state| state.borrow().1.is_none());
        let mut states = self.reading().chain(beside).map(|state| state.borrow().0);
        match (wanted, states.find(|state| *state != wanted).unwrap_or(wanted)) {
            (Input::Reading, Input::Paused) => Input::Joining,
            (_, state) => state,
        }
    }

    /// The error text of the server, while it refuses a subscription.
    pub fn refused(&self) -> Option<String> {
        self.reading().find_map(|state| state.borrow().1.clone())
    }

    /// The readers that have to read for frames to arrive.
    fn reading(&self) -> impl Iterator<Item = &watch::Receiver<InputState>> {
        let open = self.gated.iter().filter(|(gate, _)| *gate.borrow()).map(|(_, state)| state);
        self.states.iter().chain(open)
    }

    fn want(&self, input: Input) {
        self.wanted.send_if_modified(|wanted| {
            let change = *wanted != input && *wanted != Input::Stopped;
            if change {
                *wanted = input;
            }
            change
        });
    }
}

/// Handle that ends the reading of frames.
#[derive(Debug)]
pub struct Frames {
    switch: InputSwitch,
    ended: Vec<oneshot::Receiver<()>>,
}

/// A reader's side of [`Frames`].
pub(super) struct InputSeat {
    pub(super) wanted: watch::Receiver<Input>,
    pub(super) state: watch::Sender<InputState>,
    /// Dropped with the reader, which signals its end.
    pub(super) ending: oneshot::Sender<()>,
}

impl Frames {
    /// Paused; with so many readers.
    pub(super) fn new(readers: usize) -> (Self, Vec<InputSeat>) {
        let wanted = watch::Sender::new(Input::Paused);
        let mut frames = Self {
            switch: InputSwitch { wanted, states: Vec::new(), gated: Vec::new(), beside: Vec::new() },
            ended: Vec::new(),
        };
        let seats = (0..readers).map(|_| {
            let (state, seat) = frames.seat();
            frames.switch.states.push(state);
            seat
        });
        let seats = seats.collect();
        (frames, seats)
    }

    /// A seat for a reader of frames that reads only while `gate` is true.
    pub(super) fn gated_seat(&mut self, gate: watch::Receiver<bool>) -> InputSeat {
        let (state, InputSeat { wanted, state: states, ending }) = self.seat();
        self.switch.gated.push((gate.clone(), state));
        let sender = watch::Sender::new(Input::Paused);
        let gated = sender.subscribe();
        tokio::spawn(behind(gate, wanted, sender));
        InputSeat { wanted: gated, state: states, ending }
    }

    /// A seat for a reader of something else, which is paused and ended with the readers of frames. Its
    /// switch knows it only in copies that are made from now on.
    pub(super) fn seat_beside(&mut self) -> InputSeat {
        let (state, seat) = self.seat();
        self.switch.beside.push(state);
        seat
    }

    fn seat(&mut self) -> (watch::Receiver<InputState>, InputSeat) {
        let (state, observed) = watch::channel((Input::Joining, None));
        let (ending, end) = oneshot::channel();
        self.ended.push(end);
        (observed, InputSeat { wanted: self.switch.wanted.subscribe(), state, ending })
    }

    /// The switch that pauses the input.
    pub fn switch(&self) -> &InputSwitch {
        &self.switch
    }

    /// Ends the subscriptions and waits, at most `bound`, until every message already sent to them is read.
    pub async fn stop(self, bound: Duration) {
        self.switch.want(Input::Stopped);
        tokio::select! {
            _ = join_all(self.ended) => {}
            () = tokio::time::sleep(bound) => tracing::warn!("the subscription did not end in time"),
        }
    }
}

/// Passes on what is wanted, and instead of reading a pause while the gate is closed.
async fn behind(
    mut gate: watch::Receiver<bool>,
    mut wanted: watch::Receiver<Input>,
    passed: watch::Sender<Input>,
) {
    loop {
        let is_open = *gate.borrow_and_update();
        let wants = match *wanted.borrow_and_update() {
            Input::Reading if !is_open => Input::Paused,
            wants => wants,
        };
        passed.send_if_modified(|before| std::mem::replace(before, wants) != wants);
        let gone = tokio::select! {
            changed = wanted.changed() => changed.is_err(),
            // A gate that nobody moves stays as it is.
            Ok(()) = gate.changed() => false,
            () = passed.closed() => true,
        };
        if gone || wants == Input::Stopped {
            return;
        }
    }
}
