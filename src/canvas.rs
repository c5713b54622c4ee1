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

/// Tokens plus a state per slot. A masked slot always holds the mask token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canvas {
    tokens: Vec<Token>,
    slots: Vec<Slot>,
    mask: Token,
}

impl Canvas {
    /// An empty canvas for a model whose mask token is `mask`.
    pub fn new(mask: Token) -> Self {
        Self {
            tokens: Vec::new(),
            slots: Vec::new(),
            mask,
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
        if range.start > range.end || range.end > self.len() {
            crate::bail!(
                InvalidArgument,
                "slots {}..{} are not inside a canvas of {}",
                range.start,
                range.end,
                self.len()
            );
        }
        self.tokens[range.clone()].fill(self.mask);
        self.slots[range].fill(Slot::Masked);
        Ok(())
    }

    /// Removes everything from slot `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.tokens.truncate(len);
        self.slots.truncate(len);
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
