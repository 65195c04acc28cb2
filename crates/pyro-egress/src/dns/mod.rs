//! The DNS proxy on the gateway's address: questions are judged before they leave, answers are rebuilt before they arrive.

mod answer;
#[cfg(test)]
mod answer_tests;
mod question;
mod stream;
mod upstream;

pub use answer::{AddressJudge, Answer, AnswerError, answer};
pub use question::{Question, QuestionKind, Unusable, error_reply, parse_question, refusal_rcode};
pub(crate) use stream::{StreamQuestion, serve_stream};
pub(crate) use upstream::{AskError, ask};
pub use upstream::{check_reply, query};
