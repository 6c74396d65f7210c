//! The program against folders on a real disk: whole, torn, damaged, foreign, live, and plain noise.

mod hostile;
mod live;
mod reading;
mod rig;
mod story;
mod verdicts;
