//! What an answer takes of the machine's memory.

use super::CacheKey;
use super::core::Entry;
use crate::outcome::{Answer, Label, NamedTensor};

/// What an allocation takes: the common allocators' blocks have a header and come in multiples of 16 bytes.
pub fn allocated(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { (bytes + 8).next_multiple_of(16).max(32) }
}

/// What an answer takes with its place in a list. Texts are not counted: labels and names are the model's own.
pub fn of_entry(answer: &Answer) -> usize {
    LEAST
        + match answer {
            Answer::Localization(_) => 0,
            Answer::Classification(labels) => allocated(labels.capacity() * size_of::<Label>()),
            Answer::Tensors(tensors) => {
                let parts =
                    |tensor: &NamedTensor| allocated(tensor.shape.capacity() * size_of::<usize>()) + allocated(tensor.data.capacity());
                allocated(tensors.capacity() * size_of::<NamedTensor>()) + tensors.iter().map(parts).sum::<usize>()
            }
        }
}

/// The least an entry takes: the list's node, of key, entry and two links, and the shared answer with its two counts.
pub const LEAST: usize = {
    let node = size_of::<CacheKey>() + size_of::<Entry>() + 2 * size_of::<usize>();
    let answer = 2 * size_of::<usize>() + size_of::<Answer>();
    (node + 8).next_multiple_of(16) + (answer + 8).next_multiple_of(16)
};

/// A list's table is made for twice its entries, so that the places of those taken out can be used again without a larger table.
pub fn table_capacity(entries: usize) -> usize {
    2 * entries
}

/// What a list's table takes: a power of two of places, seven eighths of them used, each a key's and a node's address and a byte.
pub fn table(entries: usize) -> usize {
    let places = (table_capacity(entries) * 8 / 7 + 1).next_power_of_two();
    allocated(places * (2 * size_of::<usize>() + 1) + 16)
}
