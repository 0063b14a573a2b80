//! Memory of a cached answer.

use super::entry::CachedAnswer;
use crate::frame::CacheKey;
use crate::outcome::{Answer, Label, NamedTensor};

/// Memory of an allocation: the blocks of common allocators have a header and come in multiples of 16 bytes.
pub fn allocated(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { (bytes + 8).next_multiple_of(16).max(32) }
}

/// Memory of an answer with its entry. Texts are not counted: labels and names belong to the model.
pub fn of_entry(answer: &Answer) -> usize {
    LEAST
        + match answer {
            Answer::Localization(_) => 0,
            Answer::Classification(labels) => allocated(labels.capacity() * size_of::<Label>()),
            Answer::Tensors(tensors) => {
                let parts = |tensor: &NamedTensor| {
                    allocated(tensor.shape.capacity() * size_of::<usize>())
                        + allocated(tensor.data.capacity())
                };
                allocated(tensors.capacity() * size_of::<NamedTensor>())
                    + tensors.iter().map(parts).sum::<usize>()
            }
        }
}

/// Minimum memory of an entry: the node of the list with key, entry and two links, and the shared answer with
/// its two counts.
pub const LEAST: usize = {
    let node = size_of::<CacheKey>() + size_of::<CachedAnswer>() + 2 * size_of::<usize>();
    let answer = 2 * size_of::<usize>() + size_of::<Answer>();
    (node + 8).next_multiple_of(16) + (answer + 8).next_multiple_of(16)
};

/// Capacity of the hash table of a list: twice its entries, so that slots of removed entries are reused
/// without growing the table.
pub fn table_capacity(entries: usize) -> usize {
    2 * entries
}

/// Memory of the hash table of a list: a power of two of slots, seven eighths used, each with the address of
/// a key and a node and one byte.
pub fn table(entries: usize) -> usize {
    let places = (table_capacity(entries) * 8 / 7 + 1).next_power_of_two();
    allocated(places * (2 * size_of::<usize>() + 1) + 16)
}
