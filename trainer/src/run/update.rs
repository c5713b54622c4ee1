//! One update: the batch of its objective, the gradients, the optimiser.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use remask::{Error, ErrorKind, Result, Token};

use super::{Run, Step};
use crate::config::Kind;
use crate::data::SpecialIds;
use crate::engine::Pass;
use crate::objective::{
    Attention, Batch, Diffusion, Example, causal, pretrain, pretrain_keywords, sft, uniforms,
};
use crate::optim::Update;
use crate::{policy, preference, rollout};

/// What an update came to.
#[derive(Clone, Copy, Debug, Default)]
struct Learned {
    loss: f64,
    score: Option<f64>,
    grad_norm: f64,
    tokens: u64,
    flops: f64,
}

/// The answers to one prompt.
#[derive(Default)]
struct Group {
    rewards: Vec<f64>,
    /// For each iteration.
    batches: Vec<Batch>,
    /// Log-probabilities when the answers were written, for each iteration.
    old: Vec<Vec<f32>>,
    /// Those in the reference; empty where it costs nothing to leave it.
    reference: Vec<Vec<f32>>,
}

impl Run {
    /// One update; its `tokens` are those of this step, its `flops` operations.
    pub(super) fn update(&mut self) -> Result<Step> {
        let step = self.progress.step;
        // Noise depends on the step alone, so that nothing of it has to be saved.
        let mut rng = ChaCha8Rng::seed_from_u64(self.config.seed);
        rng.set_stream(step + (1 << 32));
        let at = self.loader.position();
        let (examples, numbers) = self.loader.next_batch(self.config.run.batch, self.ids.eos)?;
        let place = format!(
            "step {}, batch at epoch {} sequence {}",
            step + 1,
            at.epoch,
            at.next
        );
        let learned = match self.config.objective.kind {
            Kind::Preference => self.learn_preferences(&examples, &mut rng),
            Kind::Policy => self.learn_rewards(&examples, &mut rng),
            _ => {
                let batch = self.batch(examples, numbers, &mut rng);
                self.learn(&batch)
            }
        };
        let learned = learned.map_err(|e| e.context(place))?;
        let lr = self.lr();
        self.progress.step += 1;
        self.progress.position = self.loader.position();
        Ok(Step {
            step: step + 1,
            total: self.config.run.steps,
            loss: learned.loss,
            score: learned.score,
            grad_norm: learned.grad_norm,
            lr,
            tokens: learned.tokens,
            tokens_per_s: 0.0,
            flops: learned.flops,
            seconds: 0.0,
        })
    }

    /// The learning rate of the next update.
    fn lr(&self) -> f64 {
        let step = self.progress.step;
        match self.progress.fall {
            Some((from, to)) => self.config.optimizer.falling(step, from, to),
            None => self.config.optimizer.lr_at(step, self.config.run.steps),
        }
    }

    /// One update with the gradient of a weighted cross entropy.
    fn learn(&mut self, batch: &Batch) -> Result<Learned> {
        let mut learned = Learned {
            tokens: (batch.n_sequences * batch.length) as u64,
            ..Learned::default()
        };
        let ranks = self.engine.ranks();
        let parts = batch.split(self.config.run.micro_batch);
        for (_, part) in parts.iter().enumerate().filter(|(i, _)| ranks.owns(*i)) {
            let pass = self.accumulate(part, &mut learned)?;
            learned.loss += part.loss(&pass.log_probs, &pass.rates);
        }
        self.apply(&mut learned, 0, 1)?;
        Ok(learned)
    }

    fn accumulate(&mut self, part: &Batch, learned: &mut Learned) -> Result<Pass> {
        let shape = &self.config.model;
        learned.flops += shape.flops(part.n_sequences, part.length, part.slots.len());
        self.engine.accumulate(part)
    }

    /// Updates the weights: number `i` of `n` updates of this step.
    fn apply(&mut self, learned: &mut Learned, i: u64, n: u64) -> Result<()> {
        let mut sums = [learned.loss, learned.flops];
        self.engine.sum(&mut sums)?;
        [learned.loss, learned.flops] = sums;
        if !learned.loss.is_finite() {
            return Err(Error::new(
                ErrorKind::Numeric,
                format!("the loss is {}; the checkpoints before it are good", learned.loss),
            ));
        }
        let step = self.progress.step;
        let update = Update {
            adamw: self.config.optimizer.clone(),
            lr: self.lr(),
            step: step * n + i + 1,
            ema: self.config.run.ema,
        };
        learned.grad_norm = self.engine.update(&update)?.grad_norm;
        Ok(())
    }

    /// Log-probabilities of a batch's targets, in the network or its reference.
    fn log_probs(&mut self, batch: &Batch, reference: bool) -> Result<Vec<f32>> {
        let n = self.config.run.micro_batch;
        let engine = match (&mut self.reference, reference) {
            (Some(reference), true) => reference,
            _ => &mut self.engine,
        };
        let mut all = Vec::with_capacity(batch.slots.len());
        for part in batch.split(n) {
            all.extend(engine.evaluate(&part)?.log_probs);
        }
        Ok(all)
    }

    /// One update from pairs of answers ([`crate::preference`]).
    fn learn_preferences(&mut self, examples: &[Example], rng: &mut ChaCha8Rng) -> Result<Learned> {
        let config = self.config.preference.clone();
        let n_pairs = examples.len() / 2;
        let mut learned = Learned::default();
        let mut gained = 0.0;
        let ranks = self.engine.ranks();
        for (i, examples) in examples.as_chunks::<2>().0.iter().enumerate() {
            // Drawn by all processes, so that they go on from the same place.
            let mut rng = ChaCha8Rng::seed_from_u64(rng.random());
            if !ranks.owns(i) {
                continue;
            }
            let examples = preference::trimmed(examples, self.ids.eos);
            let mut pair = preference::noise(&examples, &self.diffusion(), config.samples, &mut rng);
            if self.config.objective.shift {
                pair.shift();
            }
            learned.tokens += pair.tokens.len() as u64;
            let ours = self.log_probs(&pair, false)?;
            let theirs = self.log_probs(&pair, true)?;
            let n_answer = pair.length - examples[0].n_prompt;
            let (loss, gain) = preference::weigh(&mut pair, n_answer, &config, &ours, &theirs, n_pairs);
            learned.loss += loss;
            gained += f64::from(u8::from(gain > 0.0)) / n_pairs as f64;
            for part in pair.split(self.config.run.micro_batch) {
                self.accumulate(&part, &mut learned)?;
            }
        }
        let mut sums = [gained, learned.tokens as f64];
        self.engine.sum(&mut sums)?;
        learned.score = Some(sums[0]);
        learned.tokens = sums[1] as u64;
        self.apply(&mut learned, 0, 1)?;
        Ok(learned)
    }

    /// Updates from rewards of the network's own answers ([`crate::policy`]).
    fn learn_rewards(&mut self, examples: &[Example], rng: &mut ChaCha8Rng) -> Result<Learned> {
        let config = self.config.policy.clone();
        let n_answers = examples.len() * config.group;
        let ranks = self.engine.ranks();
        let (mut groups, mut reward) = (Vec::new(), 0.0);
        for (i, example) in examples.iter().enumerate() {
            // Drawn by all processes, so that they go on from the same place.
            let seeds: Vec<u64> = (0..config.group).map(|_| rng.random()).collect();
            let noise: u64 = rng.random();
            if ranks.owns(i) {
                let group = self.write_group(example, seeds, noise)?;
                reward += group.rewards.iter().sum::<f64>() / n_answers as f64;
                groups.push(group);
            }
        }
        let n = config.iterations as u64;
        let mut all = Learned::default();
        for j in 0..config.iterations {
            let mut learned = Learned::default();
            for group in &groups {
                let mut batch = group.batches[j].clone();
                learned.tokens += batch.tokens.len() as u64;
                // The first update is made by the network that wrote.
                let now = match j {
                    0 => group.old[0].clone(),
                    _ => self.log_probs(&batch, false)?,
                };
                let theirs: &[f32] = group.reference.get(j).map_or(&[], Vec::as_slice);
                let known = [&now, group.old[j].as_slice(), theirs];
                let advantages = policy::advantages(&group.rewards);
                learned.loss += policy::weigh(&mut batch, &config, &advantages, known, n_answers);
                for part in batch.split(self.config.run.micro_batch) {
                    self.accumulate(&part, &mut learned)?;
                }
            }
            self.apply(&mut learned, j as u64, n)?;
            all.loss += learned.loss / n as f64;
            all.flops += learned.flops;
            all.tokens += learned.tokens;
            all.grad_norm = all.grad_norm.max(learned.grad_norm);
        }
        let mut sums = [reward, all.tokens as f64];
        self.engine.sum(&mut sums)?;
        all.score = Some(sums[0]);
        all.tokens = sums[1] as u64;
        Ok(all)
    }

    /// Writes the answers to one prompt, rewards them, and prepares their updates.
    fn write_group(&mut self, example: &Example, seeds: Vec<u64>, noise: u64) -> Result<Group> {
        let config = self.config.policy.clone();
        let SpecialIds { mask, eos, .. } = self.ids;
        let (prompt, expected) = example.tokens.split_at(example.n_prompt);
        let until = |tokens: &[Token]| tokens.iter().position(|&t| t == eos).unwrap_or(tokens.len());
        let words = |tokens: &[Token]| self.encoder.decode(&tokens[..until(tokens)]);
        let expected = words(expected);
        let shift = self.config.objective.shift;
        // What stands for no token of the tokenizer must not be written.
        let n_vocab = self.config.model.vocab_size as Token;
        let mut never: Vec<Token> = (self.encoder.n_vocab() as Token..n_vocab).collect();
        never.push(mask);
        let written = rollout::write(self.engine.as_mut(), prompt, &config, mask, never, shift, seeds)?;
        let rewards = written
            .iter()
            .map(|tokens| config.reward.of(&words(tokens), &expected));
        let rewards = rewards.collect();
        let answers: Vec<Vec<Token>> = written
            .iter()
            .map(|tokens| tokens[..(until(tokens) + 1).min(tokens.len())].to_vec())
            .collect();
        let mut rng = ChaCha8Rng::seed_from_u64(noise);
        let mut group = Group {
            rewards,
            ..Group::default()
        };
        for _ in 0..config.iterations {
            let mut batch = policy::batch(
                prompt,
                &answers,
                config.tokens,
                mask,
                config.prompt_mask,
                &mut rng,
            );
            if shift {
                batch.shift();
            }
            group.old.push(self.log_probs(&batch, false)?);
            if config.kl > 0.0 {
                group.reference.push(self.log_probs(&batch, true)?);
            }
            group.batches.push(batch);
        }
        Ok(group)
    }

    pub(super) fn diffusion(&self) -> Diffusion {
        Diffusion {
            mask: self.ids.mask,
            eps: self.config.objective.eps,
            times: self.config.objective.times,
        }
    }

    /// The noised batch of an update.
    fn batch(&self, mut examples: Vec<Example>, mut numbers: Vec<u32>, rng: &mut ChaCha8Rng) -> Batch {
        let o = &self.config.objective;
        let d = self.diffusion();
        let mut length = examples.first().map_or(0, |e| e.tokens.len());
        if o.kind != Kind::Sft && rng.random::<f64>() < o.random_length {
            let cut = rng.random_range(1..=length);
            numbers = numbers
                .chunks_exact(length)
                .flat_map(|n| n[..cut].to_vec())
                .collect();
            examples.iter_mut().for_each(|e| e.tokens.truncate(cut));
            length = cut;
        }
        let [from, to] = o.range;
        let mut times = d.times.draw(examples.len(), rng);
        times.iter_mut().for_each(|t| *t = from + *t * (to - from));
        let u = uniforms(examples.len() * length, rng);
        let flat = || {
            examples
                .iter()
                .flat_map(|e| e.tokens.iter().copied())
                .collect::<Vec<_>>()
        };
        let mut batch = match (o.kind, &self.keywords) {
            (Kind::Causal, _) => causal(&examples),
            (Kind::Pretrain, Some(keywords)) => pretrain_keywords(&flat(), length, &d, keywords, &times, &u),
            (Kind::Pretrain, None) => pretrain(&flat(), length, &d, &times, &u),
            _ => sft(&examples, &d, &times, &u),
        };
        if o.kind != Kind::Causal {
            if o.anneal > self.progress.step {
                batch.attention = annealed(length, self.progress.step as f64 / o.anneal as f64, rng);
            } else if !self.config.data.across_documents && !numbers.is_empty() {
                batch.attention = Attention::Documents(numbers);
            }
            if o.shift {
                batch.shift();
            }
        }
        batch
    }
}

/// Attention between causal and full: of what comes after a slot a share `open` is seen, another for each
/// pair and update (DiffuLLaMA, arXiv 2410.17891, section 3.2: attention mask annealing).
fn annealed(length: usize, open: f64, rng: &mut impl Rng) -> Attention {
    let table = (0..length * length).map(|at| {
        let (from, to) = (at / length, at % length);
        to <= from || rng.random::<f64>() < open
    });
    Attention::Table(table.collect())
}
