#include "mgmt/voter_memory.h"

#include <spdlog/spdlog.h>

#include "mgmt/files.h"

namespace voldfs::mgmt {

Result<VoterMemory::Promise> VoterMemory::load() const {
  const auto document = read_document(path_);
  if (!document) return fail(document.error());
  try {
    Promise promise;
    const auto cluster = Id::parse(document->at("cluster").get<std::string>());
    if (!cluster) return fail(EBADMSG);
    promise.cluster = *cluster;
    promise.voter = document->at("voter").get<uint64_t>();
    promise.term = document->at("term").get<uint64_t>();
    promise.vote = document->at("vote").get<uint64_t>();
    promise.last_index = document->at("last_index").get<uint64_t>();
    return promise;
  } catch (const std::exception&) {
    return fail(EBADMSG);
  }
}

void VoterMemory::save(const Promise& promise) {
  if (promise == saved_) return;
  const auto written = write_document(path_,
                                      {{"cluster", promise.cluster.uuid()},
                                       {"voter", promise.voter},
                                       {"term", promise.term},
                                       {"vote", promise.vote},
                                       {"last_index", promise.last_index}},
                                      0600);
  if (written) {
    saved_ = promise;
    warned_ = false;
  } else if (!warned_) {
    warned_ = true;
    spdlog::warn("voter memory not written path={} reason={}", path_, written.error());
  }
}

bool VoterMemory::forgotten(const Promise& promised, const Promise& log) {
  if (promised.cluster != log.cluster || promised.voter != log.voter) return false;  // of a former life
  if (log.term != promised.term) return log.term < promised.term || log.last_index < promised.last_index;
  return log.last_index < promised.last_index || (promised.vote != 0 && log.vote != promised.vote);
}

}  // namespace voldfs::mgmt
