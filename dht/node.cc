#include "dht/node.h"

#include <vector>

#include <algorithm>
#include <cstring>
#include <tuple>
#include <utility>

namespace voldfs::dht {

uint64_t inode_number(const Id& id) {
  constexpr uint64_t kRootInode = 1;  // FUSE_ROOT_ID
  if (id == kRootId) return kRootInode;
  uint64_t low, high;
  std::memcpy(&low, id.bytes.data(), 8);
  std::memcpy(&high, id.bytes.data() + 8, 8);
  const uint64_t number = low ^ high;
  return number > kRootInode ? number : number + 2;  // 0 is no inode
}

Node::Location Node::location() const {
  std::lock_guard lock(mutex_);
  return location_;
}

void Node::set_location(const Location& location) {
  std::lock_guard lock(mutex_);
  location_ = location;
}

Node::Name Node::name() const {
  std::lock_guard lock(mutex_);
  return name_;
}

void Node::set_name(NodePtr parent, std::string_view name) {
  {
    std::lock_guard lock(mutex_);
    if (name_.name != name || name_.parent != parent) durable_change_ = 0;
    if (name_.name != name) name_.name = name;
    name_.parent.swap(parent);
  }
  // The old parent may end here, outside of the lock.
}

void Node::set_removed(const wire::Attr& last) {
  std::lock_guard guard(mutex_);
  as_directory().removed = last;
  as_directory().removed->nlink = 0;
}

std::optional<wire::Attr> Node::removed() const {
  std::lock_guard guard(mutex_);
  return as_directory_ ? as_directory_->removed : std::nullopt;
}

wire::DirRecord Node::record() const {
  std::lock_guard lock(mutex_);
  if (as_directory_ && as_directory_->record) return *as_directory_->record;
  wire::DirRecord none{};
  none.id = id_;
  return none;
}

void Node::update_record(const wire::DirRecord& record) {
  std::lock_guard lock(mutex_);
  const auto age = [](const wire::DirRecord& r) { return std::tie(r.home_generation, r.change); };
  std::optional<wire::DirRecord>& known = as_directory().record;
  if (!known || age(record) >= age(*known)) known = record;
}

namespace {

auto age(const Grant& grant) { return std::tie(grant.generation, grant.sequence); }

}  // namespace

void Node::note_attr(const BrickAttr& told) {
  std::lock_guard lock(mutex_);
  for (BrickAttr& known : as_directory().brick_attrs) {
    if (known.grant.brick != told.grant.brick) continue;
    if (age(told.grant) >= age(known.grant)) known = told;
    return;
  }
  as_directory().brick_attrs.push_back(told);
}

void Node::forget_attrs() {
  std::lock_guard lock(mutex_);
  for (BrickAttr& known : as_directory().brick_attrs) known.grant.end_ms = 0;
}

void Node::note_listing(Listing listing) {
  std::lock_guard lock(mutex_);
  as_directory().listing = std::move(listing);
}

Node::Listing Node::listing() const {
  std::lock_guard lock(mutex_);
  return as_directory_ ? as_directory_->listing : Listing{};
}

void Node::use_known_names(const std::function<void(KnownNames&)>& use) {
  std::lock_guard lock(mutex_);
  std::unique_ptr<KnownNames>& names = as_directory().known_names;
  if (!names) names = std::make_unique<KnownNames>();
  use(*names);
}

std::vector<Grant> Node::grants_of_missing(std::string_view name) const {
  std::lock_guard lock(mutex_);
  return as_directory_ && as_directory_->known_names ? as_directory_->known_names->grants_of_missing(name) : std::vector<Grant>();
}

KernelPages& Node::make_kernel_pages() {
  if (KernelPages* const made = kernel_pages()) return *made;
  std::lock_guard guard(mutex_);
  std::unique_ptr<KernelPages>& pages = as_file().kernel_pages;
  if (!pages) {
    pages = std::make_unique<KernelPages>();
    kernel_pages_.store(pages.get(), std::memory_order_release);
  }
  return *pages;
}

// The kernel counts from when it looks at the answer.
void Node::note_kept(double seconds) {
  constexpr int64_t kLateMs = 1'000;
  if (seconds <= 0) return;
  const int64_t now_ms = boottime_ms(), until_ms = now_ms + static_cast<int64_t>(seconds * 1000) + kLateMs;
  told_to_keep_ms_.store(now_ms, std::memory_order_release);
  int64_t before = kept_until_ms_.load(std::memory_order_relaxed);
  while (before < until_ms && !kept_until_ms_.compare_exchange_weak(before, until_ms, std::memory_order_acq_rel)) {
  }
}

void Node::note_no_capability(const Grant& grant) {
  std::lock_guard lock(mutex_);
  no_capability_ = grant;
}

Grant Node::no_capability() const {
  std::lock_guard lock(mutex_);
  return no_capability_;
}

void Node::note_no_xattrs(const Grant& grant) {
  if (grant.sequence == 0) return;
  std::lock_guard lock(mutex_);
  if (!as_file_ || age(grant) > age(as_file_->xattrs_changed)) no_xattrs_ = grant;
}

void Node::note_xattrs_changed(const Grant& when) {
  std::lock_guard lock(mutex_);
  as_file().xattrs_changed = when;
  no_xattrs_ = {};
}

Grant Node::no_xattrs() const {
  std::lock_guard lock(mutex_);
  return no_xattrs_;
}

void Node::forget_attr(Grant since) {
  since.end_ms = 0;
  std::lock_guard lock(mutex_);
  for (BrickAttr& known : as_directory().brick_attrs) {
    if (known.grant.brick != since.brick) continue;
    if (age(since) >= age(known.grant)) known.grant = since;
    return;
  }
  as_directory().brick_attrs.push_back({since, {}, 0, 0});
}

bool Node::may_keep(std::span<const Grant> grants) const {
  if (changing.load() != 0) return false;
  std::lock_guard lock(mutex_);
  if (!as_directory_) return true;
  for (const BrickAttr& known : as_directory_->brick_attrs)
    for (const Grant& grant : grants)
      if (grant.brick == known.grant.brick && age(grant) < age(known.grant)) return false;
  return true;
}

std::optional<Node::BrickAttr> Node::attr_of(uint16_t brick) const {
  std::lock_guard lock(mutex_);
  if (!as_directory_) return std::nullopt;
  for (const BrickAttr& known : as_directory_->brick_attrs)
    if (known.grant.brick == brick) return known;
  return std::nullopt;
}

NodeTable::Shard& NodeTable::shard(const Id& id) { return shards_[IdHash{}(id) % kShards]; }

NodePtr NodeTable::get(const Id& id, wire::ObjectType type) {
  Shard& shard = this->shard(id);
  std::lock_guard lock(shard.mutex);
  if (shard.nodes.size() >= shard.sweep_at) {
    std::erase_if(shard.nodes, [](const auto& entry) { return entry.second.node.expired(); });
    shard.sweep_at = std::max<size_t>(kSweepMin, 2 * shard.nodes.size());
  }
  Entry& entry = shard.nodes[id];
  NodePtr node = entry.node.lock();
  if (!node || node->type() != type) {  // an id never changes its type; a confused brick may say so
    node = std::make_shared<Node>(id, type);
    node->changes = (1 + made_.fetch_add(1)) << kChangesBits;
    entry.node = node;
  }
  return node;
}

NodePtr NodeTable::find(const Id& id) {
  Shard& shard = this->shard(id);
  std::lock_guard lock(shard.mutex);
  const auto found = shard.nodes.find(id);
  return found == shard.nodes.end() ? nullptr : found->second.node.lock();
}

void NodeTable::count(const NodePtr& node, uint64_t n) {
  if (n == 0) return;
  Shard& shard = this->shard(node->id());
  std::lock_guard lock(shard.mutex);
  node->kernel_lookups += n;
  Entry& entry = shard.nodes[node->id()];
  if (entry.node.expired()) entry.node = node;
  if (!entry.held) entry.held = node;
}

void NodeTable::forget(Node* node, uint64_t n) {
  Shard& shard = this->shard(node->id());
  NodePtr last;  // ends outside of the lock: a parent of it may be in the same shard
  std::lock_guard lock(shard.mutex);
  node->kernel_lookups -= std::min(n, node->kernel_lookups);
  if (node->kernel_lookups > 0) return;
  forgotten_.fetch_add(1);
  const auto found = shard.nodes.find(node->id());
  if (found == shard.nodes.end() || found->second.held.get() != node) return;
  last = std::move(found->second.held);
  if (last.use_count() == 1) shard.nodes.erase(found);  // nobody can lock the weak reference meanwhile
}

size_t NodeTable::size() const {
  size_t count = 0;
  for (const Shard& shard : shards_) {
    std::lock_guard lock(shard.mutex);
    count += static_cast<size_t>(std::count_if(shard.nodes.begin(), shard.nodes.end(),
                                               [](const auto& entry) { return !entry.second.node.expired(); }));
  }
  return count;
}

void NodeTable::for_each(const std::function<void(const NodePtr&)>& visit) {
  std::vector<NodePtr> nodes;
  for (Shard& shard : shards_) {
    {
      std::lock_guard lock(shard.mutex);
      for (const auto& [id, entry] : shard.nodes)
        if (NodePtr node = entry.node.lock()) nodes.push_back(std::move(node));
    }
    for (const NodePtr& node : nodes) visit(node);
    nodes.clear();
  }
}

}  // namespace voldfs::dht
