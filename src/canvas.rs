//! The canvas: tokens and what may happen to each slot.
#![forbid(unsafe_code)]

use std::ops::Range;

use crate::error::Result;

/// A token's number in the vocabulary.
pub type Token = u32;

/// The longest canvas, whatever a model was trained for: bounds what a caller can ask for in memory.
pub const MAX_SLOTS: usize = 1 << 20;

/// What may happen to a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Slot {
    /// Given by the caller; never changes.
    Fixed = 0,
    /// To be filled; holds the mask token.
    Masked = 1,
    /// Filled by a run.
    Filled = 2,
}

/// The most pairs of a slot and a token that is forbidden there.
const MAX_FORBIDDEN: usize = 1 << 22;

/// Tokens plus a state per slot. A masked slot always holds the mask token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canvas {
    tokens: Vec<Token>,
    slots: Vec<Slot>,
    mask: Token,
    /// Ascending, each pair once.
    forbidden: Vec<(usize, Token)>,
}

impl Canvas {
    /// An empty canvas for a model whose mask token is `mask`.
    pub fn new(mask: Token) -> Self {
        Self {
            tokens: Vec::new(),
            slots: Vec::new(),
            mask,
            forbidden: Vec::new(),
        }
    }

    /// A canvas of `tokens`, masked where they are the mask token and fixed elsewhere: how the
    /// reference reads a prompt.
    pub fn from_tokens(tokens: &[Token], mask: Token) -> Self {
        let slots = tokens
            .iter()
            .map(|&t| if t == mask { Slot::Masked } else { Slot::Fixed })
            .collect();
        Self {
            tokens: tokens.to_vec(),
            slots,
            mask,
            forbidden: Vec::new(),
        }
    }

    /// Appends fixed tokens. The mask token among them stays a token: it is shown to the model and
    /// never filled.
    pub fn push_fixed(&mut self, tokens: &[Token]) {
        self.tokens.extend_from_slice(tokens);
        self.slots.resize(self.tokens.len(), Slot::Fixed);
    }

    /// Appends `n` slots to fill.
    ///
    /// # Errors
    /// `Limit`, beyond [`MAX_SLOTS`].
    pub fn push_masked(&mut self, n: usize) -> Result<()> {
        let len = self.len().checked_add(n).filter(|&len| len <= MAX_SLOTS);
        let Some(len) = len else {
            crate::bail!(Limit, "{n} more slots make the canvas longer than {MAX_SLOTS}");
        };
        self.tokens.resize(len, self.mask);
        self.slots.resize(len, Slot::Masked);
        Ok(())
    }

    /// Masks the slots of `range` again, fixed ones too.
    ///
    /// # Errors
    /// `InvalidArgument`, when the range is not inside the canvas.
    pub fn mask_range(&mut self, range: Range<usize>) -> Result<()> {
        self.check(&range)?;
        self.tokens[range.clone()].fill(self.mask);
        self.slots[range].fill(Slot::Masked);
        Ok(())
    }

    /// Fixes what a run filled in `range`: the next run takes it as given. Masked slots stay masked.
    ///
    /// # Errors
    /// `InvalidArgument`, when the range is not inside the canvas.
    pub fn fix_range(&mut self, range: Range<usize>) -> Result<()> {
        self.check(&range)?;
        let filled = self.slots[range].iter_mut().filter(|s| **s == Slot::Filled);
        filled.for_each(|slot| *slot = Slot::Fixed);
        Ok(())
    }

    /// Puts fixed tokens into the slots from `begin` on, whatever is there.
    ///
    /// # Errors
    /// `InvalidArgument`, when they do not end inside the canvas.
    pub fn set_fixed(&mut self, begin: usize, tokens: &[Token]) -> Result<()> {
        let range = begin..begin.saturating_add(tokens.len());
        self.check(&range)?;
        self.tokens[range.clone()].copy_from_slice(tokens);
        self.slots[range].fill(Slot::Fixed);
        Ok(())
    }

    /// Forbids `tokens` in the slots of `range`, besides what is forbidden there: runs never put them
    /// there. No token at all allows everything again.
    ///
    /// # Errors
    /// `InvalidArgument`, when the range is not inside the canvas; `Limit`, beyond 4 Mi pairs.
    pub fn forbid(&mut self, range: Range<usize>, tokens: &[Token]) -> Result<()> {
        self.check(&range)?;
        if tokens.is_empty() {
            self.forbidden.retain(|(slot, _)| !range.contains(slot));
            return Ok(());
        }
        let more = range.len().saturating_mul(tokens.len());
        if self.forbidden.len().saturating_add(more) > MAX_FORBIDDEN {
            crate::bail!(
                Limit,
                "{} tokens forbidden in {} slots are more than {MAX_FORBIDDEN} in all",
                tokens.len(),
                range.len()
            );
        }
        for slot in range {
            self.forbidden.extend(tokens.iter().map(|&token| (slot, token)));
        }
        self.forbidden.sort_unstable();
        self.forbidden.dedup();
        Ok(())
    }

    /// Whether anything is forbidden in some slot.
    pub fn has_forbidden(&self) -> bool {
        !self.forbidden.is_empty()
    }

    /// What is forbidden in `slot`, ascending.
    pub fn forbidden(&self, slot: usize) -> impl Iterator<Item = Token> {
        let begin = self.forbidden.partition_point(|&(s, _)| s < slot);
        let rest = self.forbidden.get(begin..).unwrap_or_default();
        rest.iter().take_while(move |&&(s, _)| s == slot).map(|&(_, t)| t)
    }

    /// Takes over the tokens and states of `other`, in the memory that is there.
    pub fn copy_from(&mut self, other: &Self) {
        self.tokens.clone_from(&other.tokens);
        self.slots.clone_from(&other.slots);
        self.forbidden.clone_from(&other.forbidden);
        self.mask = other.mask;
    }

    /// Removes everything from slot `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.tokens.truncate(len);
        self.slots.truncate(len);
        self.forbidden.retain(|&(slot, _)| slot < len);
    }

    fn check(&self, range: &Range<usize>) -> Result<()> {
        if range.start > range.end || range.end > self.len() {
            crate::bail!(
                InvalidArgument,
                "slots {}..{} are not inside a canvas of {}",
                range.start,
                range.end,
                self.len()
            );
        }
        Ok(())
    }

    /// Number of slots.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there is no slot.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The token of every slot.
    pub fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// The state of every slot.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The mask token.
    pub fn mask_token(&self) -> Token {
        self.mask
    }

    /// Number of slots to fill.
    pub fn n_masked(&self) -> usize {
        self.slots.iter().filter(|&&s| s == Slot::Masked).count()
    }

    /// Fills a masked slot. The mask token leaves it masked: a model may predict it, and the reference
    /// then keeps the slot open.
    pub(crate) fn fill(&mut self, slot: usize, token: Token) {
        if self.slots.get(slot) == Some(&Slot::Masked) && token != self.mask {
            self.tokens[slot] = token;
            self.slots[slot] = Slot::Filled;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_token_leaves_a_slot_masked() {
        let mut canvas = Canvas::new(9);
        canvas.push_masked(2).unwrap();
        canvas.fill(0, 9);
        canvas.fill(1, 3);
        assert_eq!(canvas.slots(), [Slot::Masked, Slot::Filled]);
        assert_eq!(canvas.tokens(), [9, 3]);
    }

    #[test]
    fn fixed_slots_are_not_filled() {
        let mut canvas = Canvas::new(9);
        canvas.push_fixed(&[1, 9]);
        canvas.fill(0, 3);
        canvas.fill(1, 3);
        assert_eq!(canvas.tokens(), [1, 9]);
        assert_eq!(canvas.n_masked(), 0);
    }

    #[test]
    fn forbidden_tokens_are_kept_by_slot() {
        let mut canvas = Canvas::new(9);
        canvas.push_masked(4).unwrap();
        canvas.forbid(1..3, &[5, 2, 5]).unwrap();
        canvas.forbid(2..3, &[1]).unwrap();
        let at = |canvas: &Canvas, slot| canvas.forbidden(slot).collect::<Vec<_>>();
        assert!(at(&canvas, 0).is_empty());
        assert_eq!(at(&canvas, 1), [2, 5]);
        assert_eq!(at(&canvas, 2), [1, 2, 5]);
        canvas.forbid(0..2, &[]).unwrap();
        assert!(at(&canvas, 1).is_empty());
        canvas.truncate(2);
        canvas.push_masked(1).unwrap();
        assert!(at(&canvas, 2).is_empty());
        assert!(canvas.forbid(2..4, &[1]).is_err());
    }

    #[test]
    fn fixing_takes_what_was_filled_and_leaves_masks() {
        let mut canvas = Canvas::new(9);
        canvas.push_masked(3).unwrap();
        canvas.fill(0, 4);
        canvas.fix_range(0..2).unwrap();
        assert_eq!(canvas.slots(), [Slot::Fixed, Slot::Masked, Slot::Masked]);
        canvas.set_fixed(1, &[7, 8]).unwrap();
        assert_eq!(canvas.tokens(), [4, 7, 8]);
        assert_eq!(canvas.n_masked(), 0);
        assert!(canvas.set_fixed(2, &[1, 2]).is_err());
        assert!(canvas.set_fixed(usize::MAX, &[1, 2]).is_err());
    }

    #[test]
    fn ranges_outside_are_refused() {
        let mut canvas = Canvas::new(9);
        canvas.push_fixed(&[1, 2, 3]);
        assert!(canvas.mask_range(1..4).is_err());
        #[allow(clippy::reversed_empty_ranges)]
        let reversed = 3..1;
        assert!(canvas.mask_range(reversed).is_err());
        canvas.mask_range(1..2).unwrap();
        assert_eq!(canvas.tokens(), [1, 9, 3]);
        assert!(canvas.push_masked(usize::MAX).is_err());
    }
}
