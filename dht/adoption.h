#pragma once

#include "dht/volume_lookup.h"

// Names that their authority does not know, because they were on the bricks before voldfs (epoch 0), or because the authority lost
// them with its host's power (kFlagUnclean). Whoever meets one leads to it from its authority, so that it is searched for once.
namespace voldfs::dht {

enum class SearchFor {
  kAdopted,  // what a brick found in its directory
  kLost,     // and everything else that a stub may have led to
};

// Asks all other bricks for a name that its authority does not have. A brick that does not answer is an error: it may have the name.
enum class Searched {
  kNothing,
  kLedTo,       // it was found, and the authority knows it from now on
  kAskOnceMore, // there is a directory that another client may have led to since the authority was asked
};
Result<Searched> search(Volume::Impl& volume, const NodePtr& dir, std::string_view name, SearchFor what, const Caller& caller);

// Brings the parts of an adopted directory together, under a home at its name's authority: `found` is a brick's word of it. Any number
// of clients may do so at once; what one of them leaves half done, the next one who meets the name does.
Result<void> unite(Volume::Impl& volume, const NodePtr& dir, std::string_view name, const Id& id, const Caller& caller);

// The root is on every brick from the start. One that has files of its own tells home so.
Result<void> unite_root(Volume::Impl& volume, uint16_t ordinal, const Caller& caller);

// Meets every name that any brick has of an adopted directory. When all of them are led to, its names are only where they belong, and
// home is told so: epoch 1. EHOSTDOWN, EIO: not all bricks answer.
Result<void> finish_adoption(Volume::Impl& volume, const NodePtr& dir, const Caller& caller);

}  // namespace voldfs::dht
