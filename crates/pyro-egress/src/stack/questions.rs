//! Questions of the guest, by datagram and by stream, from judgement to answer.

use std::net::SocketAddrV4;
use std::sync::Arc;

use domain::base::iana::Rcode;
use tokio::sync::oneshot;

use crate::dns::{AskError, Question, QuestionKind, StreamQuestion, Unusable, answer, ask, error_reply, parse_question, refusal_rcode};
use crate::event::{Event, QuestionOutcome};
use crate::policy::{Name, Reason, Refusal};

use super::emit::{self, Emitted};
use super::run::Stack;

/// A reply by stream may be as long as its length can say.
const STREAM_REPLY_BYTES: usize = u16::MAX as usize;

/// Who asked.
#[derive(Debug)]
pub(super) enum Asker {
    Datagram { guest_port: u16, server: SocketAddrV4 },
    Stream(oneshot::Sender<Vec<u8>>),
}

/// A question that a resolver was asked.
pub(super) struct Asked {
    question: Question,
    asker: Asker,
    reply: Result<Vec<u8>, AskError>,
}

impl Stack {
    pub(super) fn datagram_question(&mut self, guest_port: u16, server: SocketAddrV4, message: &[u8]) {
        self.question(message, Asker::Datagram { guest_port, server });
    }

    pub(super) fn stream_question(&mut self, question: StreamQuestion) {
        self.question(&question.message, Asker::Stream(question.reply));
    }

    fn question(&mut self, message: &[u8], asker: Asker) {
        let question = match parse_question(message) {
            Ok(question) => question,
            Err(Unusable::Ignored) => {
                self.counters.malformed += 1;
                return;
            }
            Err(Unusable::Refused { reply, refusal }) => {
                self.tell(Event::Question { name: None, kind: String::new(), outcome: QuestionOutcome::Refused(refusal) });
                self.reply(asker, &reply);
                return;
            }
        };
        let for_addresses = question.kind == QuestionKind::Address;
        if let Err(refusal) = self.judge_question(&question) {
            if for_addresses {
                self.share(&question.name, refusal_rcode(&refusal.reason));
            }
            let reply = error_reply(&question, refusal_rcode(&refusal.reason));
            self.conclude(&question, asker, &reply, QuestionOutcome::Refused(refusal));
        } else if matches!(question.kind, QuestionKind::Empty(_)) {
            if let Err((question, asker, rcode)) = self.pairs.wait(question, asker, self.now) {
                self.conclude_empty(&question, asker, rcode);
            }
        } else if self.questions.len() >= self.configuration.caps.questions_in_flight {
            let refusal = Refusal::final_word(Reason::TooMany("questions at once"));
            if for_addresses {
                self.share(&question.name, Rcode::SERVFAIL);
            }
            self.conclude(&question, asker, &error_reply(&question, Rcode::SERVFAIL), QuestionOutcome::Refused(refusal));
        } else {
            if for_addresses {
                self.pairs.ask(&question.name);
            }
            let configuration = Arc::clone(&self.configuration);
            self.questions.spawn(async move {
                let reply = ask(&question, &configuration.resolvers).await;
                Asked { question, asker, reply }
            });
        }
    }

    // Nothing that is refused here leaves the host.
    fn judge_question(&mut self, question: &Question) -> Result<(), Refusal> {
        let rule = self.policy.judge_question(&question.name)?;
        match (question.kind, rule) {
            (QuestionKind::NotServed(_), _) => Err(Refusal::final_word(Reason::KindNotServed)),
            // Answered here, so it carries nothing out.
            (QuestionKind::Empty(_), _) | (_, None) => Ok(()),
            (kind @ (QuestionKind::Address | QuestionKind::Record(_)), Some(rule)) => {
                self.budgets.spend(rule, &question.name, kind == QuestionKind::Address, &self.learnt, self.now)
            }
        }
    }

    /// Takes what a resolver said.
    pub(super) fn answered(&mut self, asked: Asked) {
        let Asked { question, asker, reply } = asked;
        let size_max = match asker {
            Asker::Datagram { .. } => question.datagram_reply_bytes(),
            Asker::Stream(_) => STREAM_REPLY_BYTES,
        };
        let (policy, learnt, now) = (&self.policy, &mut self.learnt, self.now);
        let answer = reply.ok().and_then(|reply| {
            answer(&question, &reply, size_max, &mut |address, ttl| {
                policy.judge_answer(address)?;
                learnt.learn(address, &question.name, ttl, now);
                Ok(())
            })
            .ok()
        });
        if question.kind == QuestionKind::Address {
            self.share(&question.name, answer.as_ref().map_or(Rcode::SERVFAIL, |answer| answer.rcode));
        }
        match answer {
            None => self.conclude(&question, asker, &error_reply(&question, Rcode::SERVFAIL), QuestionOutcome::Failed),
            Some(answer) => {
                let outcome = match answer.rcode {
                    Rcode::NXDOMAIN if answer.stripped.is_none() => QuestionOutcome::NoSuchName,
                    Rcode::NOERROR | Rcode::NXDOMAIN => QuestionOutcome::Answered {
                        addresses: answer.addresses,
                        other_records: answer.other_records,
                        stripped: answer.stripped,
                    },
                    _ => QuestionOutcome::Failed,
                };
                self.conclude(&question, asker, &answer.reply, outcome);
            }
        }
    }

    /// Answers what has waited for the addresses of a name.
    fn share(&mut self, name: &Name, rcode: Rcode) {
        for (question, asker) in self.pairs.conclude(name, rcode, self.now) {
            self.conclude_empty(&question, asker, rcode);
        }
    }

    fn conclude_empty(&mut self, question: &Question, asker: Asker, rcode: Rcode) {
        let outcome = match rcode {
            Rcode::NOERROR => QuestionOutcome::Answered { addresses: Vec::new(), other_records: 0, stripped: None },
            Rcode::NXDOMAIN => QuestionOutcome::NoSuchName,
            _ => QuestionOutcome::Failed,
        };
        self.conclude(question, asker, &error_reply(question, rcode), outcome);
    }

    fn conclude(&mut self, question: &Question, asker: Asker, reply: &[u8], outcome: QuestionOutcome) {
        self.tell(Event::Question { name: Some(question.name.clone()), kind: question.kind.to_string(), outcome });
        self.reply(asker, reply);
    }

    fn reply(&mut self, asker: Asker, reply: &[u8]) {
        match asker {
            Asker::Datagram { guest_port, server } => {
                let guest = SocketAddrV4::new(self.configuration.guest_address, guest_port);
                // Room was there when the question came, but a resolver may have answered since.
                let emitted = if self.output.has_room() {
                    emit::datagram(&mut self.output, self.configuration.mtu_bytes, server, guest, reply)
                } else {
                    Emitted::TooLong
                };
                if emitted == Emitted::TooLong {
                    self.counters.undeliverable += 1;
                }
            }
            // The connection may have gone meanwhile.
            Asker::Stream(sender) => {
                let _ = sender.send(reply.to_vec());
            }
        }
    }
}
