//===- LayerSpec.cpp - The keys of a layer, read and written --------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Layer/LayerSpec.h"
#include "NearNames.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/raw_ostream.h"

#include <cmath>
#include <limits>
#include <type_traits>

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::layer;

//===----------------------------------------------------------------------===//
// Names of the spec's own enumerations
//===----------------------------------------------------------------------===//

template <typename E>
static StringRef nameAt(ArrayRef<StringLiteral> names, E value) {
  size_t index = static_cast<size_t>(value);
  return index < names.size() ? StringRef(names[index]) : StringRef();
}

StringRef layer::stringifyEnum(DType value) {
  return nameAt({"f32", "bf16", "f16", "f64"}, value);
}
StringRef layer::stringifyEnum(RouterKind value) {
  return nameAt({"top_k", "expert_choice"}, value);
}
StringRef layer::stringifyEnum(WeightSite value) {
  return nameAt({"output", "input"}, value);
}
StringRef layer::stringifyEnum(CapacityMode value) {
  return nameAt({"none", "first_come", "prioritized"}, value);
}
StringRef layer::stringifyEnum(SharedMode value) {
  return nameAt({"sum", "average"}, value);
}

//===----------------------------------------------------------------------===//
// Values
//===----------------------------------------------------------------------===//

/// Sizes stay far below what their products may reach in 64 bits.
static constexpr int64_t kLargestSize = int64_t(1) << 24;

namespace {
/// The values that a key takes, beyond its type.
enum class Limits {
  any,         ///< Any finite number.
  notNegative, ///< 0 and above.
  positive,    ///< Above 0; for integers 1 and above.
};
} // namespace

/// The names of an enumeration as "a, b or c".
template <typename E> static std::string listNames() {
  SmallVector<StringRef> names;
  for (unsigned i = 0;; ++i) {
    StringRef name = stringifyEnum(static_cast<E>(i));
    if (name.empty())
      break;
    names.push_back(name);
  }
  std::string text = llvm::join(ArrayRef(names).drop_back(), ", ");
  return text + " or " + names.back().str();
}

template <typename T> static std::string describeValues(Limits range) {
  if constexpr (std::is_same_v<T, bool>)
    return "true or false";
  else if constexpr (std::is_same_v<T, std::string>)
    return "a name of letters, digits and _";
  else if constexpr (std::is_same_v<T, int64_t>)
    return ("an integer from " + Twine(range == Limits::positive ? 1 : 0) +
            " to " + Twine(kLargestSize))
        .str();
  else if constexpr (std::is_same_v<T, double>)
    return range == Limits::any           ? "a finite number"
           : range == Limits::notNegative ? "a finite number, at least 0"
                                          : "a finite number above 0";
  else
    return listNames<T>();
}

static bool isIdentifier(StringRef text) {
  auto isWord = [](char c) { return llvm::isAlnum(c) || c == '_'; };
  return !text.empty() && !llvm::isDigit(text.front()) &&
         llvm::all_of(text, isWord);
}

/// Reads a value of a key's type; false where the text is none.
template <typename T>
static bool parseValue(StringRef text, Limits range, T &value) {
  if constexpr (std::is_same_v<T, bool>) {
    value = text == "true";
    return value || text == "false";
  } else if constexpr (std::is_same_v<T, std::string>) {
    value = text.str();
    return isIdentifier(text);
  } else if constexpr (std::is_same_v<T, int64_t>) {
    int64_t least = range == Limits::positive ? 1 : 0;
    return !text.getAsInteger(10, value) && value >= least &&
           value <= kLargestSize;
  } else if constexpr (std::is_same_v<T, double>) {
    // A conversion that rounds is meant: 0.1 is no double either.
    if (text.getAsDouble(value) || !std::isfinite(value))
      return false;
    return range == Limits::any || value > 0.0 ||
           (range == Limits::notNegative && value == 0.0);
  } else {
    for (unsigned i = 0;; ++i) {
      value = static_cast<T>(i);
      StringRef name = stringifyEnum(value);
      if (name.empty() || name == text)
        return !name.empty();
    }
  }
}

template <typename T> static std::string printValue(const T &value) {
  if constexpr (std::is_same_v<T, bool>) {
    return value ? "true" : "false";
  } else if constexpr (std::is_same_v<T, std::string>) {
    return value;
  } else if constexpr (std::is_same_v<T, int64_t>) {
    return llvm::itostr(value);
  } else if constexpr (std::is_same_v<T, double>) {
    SmallString<32> text;
    // Precision 0: as many digits as it takes to read the same double back.
    APFloat(value).toString(text, /*FormatPrecision=*/0,
                            /*FormatMaxPadding=*/3);
    return text.str().str();
  } else {
    return stringifyEnum(value).str();
  }
}

//===----------------------------------------------------------------------===//
// The table of keys
//===----------------------------------------------------------------------===//

namespace {
/// One row of the table: a name, how to read and write the field, a meaning.
struct KeyRow {
  StringLiteral name;
  Limits range;
  bool (*parse)(LayerSpec &, StringRef, Limits);
  std::string (*print)(const LayerSpec &);
  std::string (*describe)(Limits);
  StringLiteral meaning;
};

template <auto Field>
using FieldType =
    std::remove_reference_t<decltype(std::declval<LayerSpec &>().*Field)>;

template <auto Field>
bool parseField(LayerSpec &spec, StringRef text, Limits range) {
  FieldType<Field> value;
  if (!parseValue(text, range, value))
    return false;
  spec.*Field = value;
  return true;
}

template <auto Field> std::string printField(const LayerSpec &spec) {
  return printValue(spec.*Field);
}

template <auto Field>
constexpr KeyRow key(StringLiteral name, StringLiteral meaning,
                     Limits range = Limits::any) {
  return {name,
          range,
          parseField<Field>,
          printField<Field>,
          describeValues<FieldType<Field>>,
          meaning};
}

using S = LayerSpec;
constexpr Limits kNotNegative = Limits::notNegative;
constexpr Limits kPositive = Limits::positive;

constexpr KeyRow kKeys[] = {
    key<&S::name>("name", "name of the function"),
    key<&S::tokens>("tokens", "T where it is static, 0 where it is dynamic"),
    key<&S::experts>("experts", "E, routed experts", kPositive),
    key<&S::zeroExperts>("zero_experts",
                         "identity experts, the ids after the routed ones"),
    key<&S::topK>("top_k", "k, slots of a token", kPositive),
    key<&S::hidden>("hidden", "H, width of x and y", kPositive),
    key<&S::inter>("inter", "I, width inside an expert", kPositive),
    key<&S::latent>("latent", "L, width that experts work on; 0 is H"),
    key<&S::xDtype>("x_dtype", "type of x, y and what experts pass on"),
    key<&S::routerDtype>("router_dtype", "storage of the router's weight"),
    key<&S::weightDtype>("weight_dtype", "storage of the other weights"),
    key<&S::logitDtype>("logit_dtype", "type that logits are rounded to"),
    key<&S::scoreDtype>("score_dtype", "type that scores are rounded to"),
    key<&S::routeDtype>("route_dtype",
                        "type that combine weights are rounded to"),
    key<&S::router>("router", "who chooses: tokens or experts"),
    key<&S::score>("score", "score function"),
    key<&S::scoreDomain>("score_domain",
                         "score over all logits, or over the chosen ones"),
    key<&S::softcap>("softcap", "c > 0: logits become c tanh(logits / c)",
                     kNotNegative),
    key<&S::selectBias>("select_bias",
                        "operand selection_bias, added for the choice only"),
    key<&S::groups>("groups", "groups of experts", kPositive),
    key<&S::keptGroups>("kept_groups", "groups that a token may choose from",
                        kPositive),
    key<&S::groupScore>("group_score", "what groups are compared by"),
    key<&S::groupFill>("group_fill", "choice key of experts in other groups"),
    key<&S::normalize>("normalize", "what the chosen scores are divided by"),
    key<&S::normP>("norm_p", "p of the p-norm", kPositive),
    key<&S::eps>("eps", "keeps the divisor from zero", kNotNegative),
    key<&S::epsMode>("eps_mode", "eps is added, or is the least divisor"),
    key<&S::scale>("scale", "factor of the weights, after the division"),
    key<&S::expertScale>("expert_scale",
                         "operand expert_scale, a factor for each expert"),
    key<&S::weightSite>("weight_site", "weights act on experts' output or "
                                       "input"),
    key<&S::indices>("indices", "operand indices, given instead of chosen"),
    key<&S::routerBias>("router_bias", "operand router_bias, in the logits"),
    key<&S::routerNorm>("router_norm",
                        "the router reads a normalised x; operand "
                        "router_scale"),
    key<&S::capacity>("capacity", "who is served where experts are full"),
    key<&S::capacityFixed>("capacity_fixed", "C where positive"),
    key<&S::capacityFactor>("capacity_factor", "share of T / E that is C",
                            kNotNegative),
    key<&S::capacityRounding>("capacity_rounding", "rounding of C"),
    key<&S::capacityMultiple>("capacity_multiple", "C is a multiple of it",
                              kPositive),
    key<&S::capacityMin>("capacity_min", "least C"),
    key<&S::capacityPer>("capacity_per", "C is a share of tokens or of slots"),
    key<&S::choiceAxis>("choice_axis", "axis of the softmax of expert choice"),
    key<&S::choiceNormalize>("choice_normalize",
                             "expert choice divides by the experts of a "
                             "token"),
    key<&S::gated>("gated", "experts have gate and up, not one projection"),
    key<&S::activation>("activation", "activation of experts"),
    key<&S::actLimit>("act_limit", "L > 0: gate and up are clamped",
                      kNotNegative),
    key<&S::actStyle>("act_style", "form of a gated activation"),
    key<&S::actAlpha>("act_alpha", "slope of the sigmoid in style oai"),
    key<&S::expertBias>("expert_bias", "operands gate_up_bias and down_bias"),
    key<&S::orientation>("orientation", "axes of the gate and up weights"),
    key<&S::downOrientation>("down_orientation", "axes of the down weight"),
    key<&S::pairing>("pairing", "how gate and up lie in memory"),
    key<&S::order>("order", "which of gate and up comes first"),
    key<&S::expertAxis>("expert_axis",
                        "expert axis leads or is folded into the rows"),
    key<&S::sharedInter>("shared_inter", "width of a shared expert; 0 is none"),
    key<&S::sharedGate>("shared_gate",
                        "the shared expert is times sigmoid(x . g)"),
    key<&S::sharedMode>("shared_mode", "routed and shared are summed or "
                                       "averaged"),
    key<&S::outputScale>("output_scale", "factor of the summed routed output"),
    key<&S::outputBias>("output_bias", "operand output_bias, once a token"),
    key<&S::tokenMask>("token_mask", "operand token_mask"),
    key<&S::groupOffsets>("group_offsets",
                          "operand group_offsets of groups of tokens"),
    key<&S::expertLoads>("expert_loads",
                         "result expert_loads, rows of experts"),
    key<&S::ids>("ids", "result ids of the routing"),
    key<&S::weights>("weights", "result weights of the routing"),
};
} // namespace

void layer::forEachLayerKey(llvm::function_ref<void(const LayerKey &)> fn) {
  LayerSpec defaults;
  for (const KeyRow &row : kKeys)
    fn({row.name, row.print(defaults), row.describe(row.range), row.meaning});
}

std::string layer::suggestNames(StringRef text, ArrayRef<StringRef> names) {
  SmallVector<std::pair<unsigned, StringRef>> near;
  for (StringRef name : names) {
    unsigned distance = text.edit_distance(name);
    bool partOf = text.size() > 2 && (name.contains_insensitive(text) ||
                                      text.contains_insensitive(name));
    if (distance * 3 <= name.size() || partOf)
      near.push_back({distance, name});
  }
  if (near.empty())
    return {};
  llvm::sort(near);
  near.truncate(std::min<size_t>(near.size(), 5));
  std::string list = "; similar ones: ";
  llvm::raw_string_ostream os(list);
  llvm::interleaveComma(near, os,
                        [&](const auto &entry) { os << entry.second; });
  return list;
}

LogicalResult layer::setLayerKey(LayerSpec &spec, StringRef key,
                                 StringRef value, std::string &error) {
  for (const KeyRow &row : kKeys) {
    if (row.name != key)
      continue;
    if (row.parse(spec, value, row.range))
      return success();
    error = ("'" + key + "' takes " + row.describe(row.range) + ", not '" +
             value + "'")
                .str();
    return failure();
  }
  SmallVector<StringRef> names;
  for (const KeyRow &row : kKeys)
    names.push_back(row.name);
  error = ("there is no key '" + key + "'").str() + suggestNames(key, names);
  return failure();
}

LogicalResult layer::setLayerKeys(LayerSpec &spec, StringRef words,
                                  std::string &error) {
  SmallVector<StringRef> parts;
  words.split(parts, ' ', /*MaxSplit=*/-1, /*KeepEmpty=*/false);
  for (StringRef word : parts) {
    if (!word.contains('=')) {
      error = ("'" + word + "' is not of the form key=value").str();
      return failure();
    }
    auto [key, value] = word.split('=');
    if (failed(setLayerKey(spec, key, value, error)))
      return failure();
  }
  return success();
}

SmallVector<std::pair<std::string, std::string>>
layer::getStatedKeys(const LayerSpec &spec) {
  LayerSpec defaults;
  SmallVector<std::pair<std::string, std::string>> stated;
  for (const KeyRow &row : kKeys)
    if (std::string value = row.print(spec); value != row.print(defaults))
      stated.push_back({row.name.str(), value});
  return stated;
}
