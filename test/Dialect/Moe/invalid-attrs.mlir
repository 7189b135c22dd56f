// Every check of an attribute on its own, and the attributes of entries and
// of their arguments.
//
// RUN: moe-opt %s --split-input-file --verify-diagnostics

//===----------------------------------------------------------------------===//
// top_k
//===----------------------------------------------------------------------===//

// expected-error @+1 {{k = 0 chooses nothing}}
func.func private @f() attributes {a = #moe.top_k<k = 0>}

// -----

// expected-error @+1 {{k = -2 chooses nothing}}
func.func private @f() attributes {a = #moe.top_k<k = -2>}

// -----

// expected-error @+2 {{struct is missing required parameter: k}}
func.func private @f() attributes {
  a = #moe.top_k<score = sigmoid>}

// -----

// expected-error @+1 {{keeps 1 of 0 groups}}
func.func private @f() attributes {a = #moe.top_k<k = 1, groups = 0>}

// -----

// expected-error @+2 {{keeps 3 of 2 groups}}
func.func private @f() attributes {
  a = #moe.top_k<k = 1, groups = 2, kept_groups = 3>}

// -----

// expected-error @+2 {{keeps 0 of 2 groups}}
func.func private @f() attributes {
  a = #moe.top_k<k = 1, groups = 2, kept_groups = 0>}

// -----

// expected-error @+1 {{softcap is negative or not finite}}
func.func private @f() attributes {a = #moe.top_k<k = 1, softcap = -1.0>}

// -----

// expected-error @+2 {{softcap is negative or not finite}}
func.func private @f() attributes {
  a = #moe.top_k<k = 1, softcap = 0x7FF0000000000000>}

// -----

// expected-error @+1 {{eps is negative or not finite}}
func.func private @f() attributes {a = #moe.top_k<k = 1, eps = -1.0e-20>}

// -----

// expected-error @+2 {{eps is negative or not finite}}
func.func private @f() attributes {
  a = #moe.top_k<k = 1, eps = 0x7FF8000000000000>}

// -----

// expected-error @+2 {{scale is not finite}}
func.func private @f() attributes {
  a = #moe.top_k<k = 1, scale = 0xFFF0000000000000>}

// -----

// expected-error @+2 {{p of the p-norm is not positive or not finite}}
func.func private @f() attributes {
  a = #moe.top_k<k = 1, normalize = pnorm, p = 0.0>}

// -----

// expected-error @+2 {{p of the p-norm is not positive or not finite}}
func.func private @f() attributes {
  a = #moe.top_k<k = 1, p = 0x7FF8000000000000>}

// -----

// expected-error @+2 {{score_dtype 'f8E4M3FN' is none of bf16, f16, f32 and f64}}
func.func private @f() attributes {
  a = #moe.top_k<k = 1, score_dtype = f8E4M3FN>}

// -----

func.func private @f() attributes {
  // expected-error @+2 {{expected one of [softmax, sigmoid, sqrt_softplus, none] for score function, got: tanh}}
  // expected-error @+1 {{failed to parse Moe_TopKAttr parameter 'score'}}
  a = #moe.top_k<k = 1, score = tanh>}

// -----

//===----------------------------------------------------------------------===//
// capacity, expert_choice
//===----------------------------------------------------------------------===//

// expected-error @+1 {{fixed capacity -1 is not within 0 to 2147483647}}
func.func private @f() attributes {a = #moe.capacity<fixed = -1>}

// -----

// expected-error @+1 {{fixed capacity 2147483648 is not within 0 to 2147483647}}
func.func private @f() attributes {a = #moe.capacity<fixed = 2147483648>}

// -----

// expected-error @+1 {{capacity factor is not within 0 to 1048576}}
func.func private @f() attributes {a = #moe.capacity<factor = -0.5>}

// -----

// expected-error @+1 {{capacity factor is not within 0 to 1048576}}
func.func private @f() attributes {a = #moe.capacity<factor = 1.0e300>}

// -----

// expected-error @+2 {{capacity factor is not within 0 to 1048576}}
func.func private @f() attributes {
  a = #moe.capacity<factor = 0x7FF8000000000000>}

// -----

// expected-error @+1 {{capacity multiple 0 is not within 1 to 2147483647}}
func.func private @f() attributes {a = #moe.capacity<multiple = 0>}

// -----

// expected-error @+2 {{capacity multiple 9223372036854775807 is not within 1 to 2147483647}}
func.func private @f() attributes {
  a = #moe.capacity<multiple = 9223372036854775807>}

// -----

// expected-error @+1 {{smallest capacity -1 is not within 0 to 2147483647}}
func.func private @f() attributes {a = #moe.capacity<min = -1>}

// -----

// expected-error @+2 {{experts that choose have no slots a token; their capacity is per tokens}}
func.func private @f() attributes {
  a = #moe.expert_choice<capacity = <per = slots>>}

// -----

// expected-error @+2 {{expert choice divides by a count or not at all}}
func.func private @f() attributes {
  a = #moe.expert_choice<capacity = <>, normalize = pnorm>}

// -----

// expected-error @+2 {{cap is negative or not finite}}
func.func private @f() attributes {
  a = #moe.expert_choice<capacity = <>, cap = -1.0>}

// -----

// expected-error @+2 {{strength is not positive or not finite}}
func.func private @f() attributes {
  a = #moe.expert_choice<capacity = <>, cap = 1.0, strength = 0.0>}

// -----

// expected-error @+2 {{0 sweeps are not within 1 to 2147483647}}
func.func private @f() attributes {
  a = #moe.expert_choice<capacity = <>, cap = 1.0, sweeps = 0>}

// -----

// expected-error @+2 {{a cap needs scores over the experts of a token}}
func.func private @f() attributes {
  a = #moe.expert_choice<capacity = <>, cap = 1.0, axis = tokens>}

// -----

// expected-error @+2 {{without a cap there is no assignment to weigh by}}
func.func private @f() attributes {
  a = #moe.expert_choice<capacity = <>, weights = assignment>}

// -----

//===----------------------------------------------------------------------===//
// layout, activation
//===----------------------------------------------------------------------===//

// expected-error @+2 {{a layout has at least one shard, not 0}}
func.func private @f() attributes {
  a = #moe.layout<orientation = out_in, shards = 0>}

// -----

// expected-error @+2 {{only a cat pairing depends on shards}}
func.func private @f() attributes {
  a = #moe.layout<orientation = out_in, pairing = interleaved, shards = 2>}

// -----

// expected-error @+2 {{activation limit is negative or not finite}}
func.func private @f() attributes {
  a = #moe.activation<kind = silu, limit = -7.0>}

// -----

// expected-error @+2 {{the oai style has its own sigmoid; its kind is silu}}
func.func private @f() attributes {
  a = #moe.activation<kind = gelu, style = oai>}

// -----

// expected-error @+2 {{alpha is not finite}}
func.func private @f() attributes {
  a = #moe.activation<kind = silu, alpha = 0x7FF0000000000000>}

// -----

// expected-error @+1 {{unknown attribute `bottom_k` in dialect `moe`}}
func.func private @f() attributes {a = #moe.bottom_k<k = 1>}

// -----

//===----------------------------------------------------------------------===//
// Entries
//===----------------------------------------------------------------------===//

// expected-error @+1 {{'moe.entry' is a unit attribute}}
func.func private @f() attributes {moe.entry = "yes"}

// -----

// expected-error @+1 {{'moe.entry' belongs on a function}}
module attributes {moe.entry} {}

// -----

// expected-error @+1 {{'moe.bounds' is a dictionary on a function}}
func.func private @f() attributes {moe.bounds = 4096}

// -----

// expected-error @+1 {{'moe.bounds' is a dictionary on a function}}
module attributes {moe.bounds = {T = 4096}} {}

// -----

// expected-error @+1 {{'moe.bounds' gives 'T' no size}}
func.func private @f() attributes {moe.bounds = {T = "many"}}

// -----

// expected-error @+1 {{'moe.bounds' gives 'T' no size}}
func.func private @f() attributes {moe.bounds = {T = -1}}

// -----

// expected-error @+1 {{'moe.bounds' gives 'T' no size}}
func.func private @f() attributes {moe.bounds = {T = 1 : ui64}}

// -----

// expected-error @+1 {{'moe.bounds' gives 'T' no size}}
func.func private @f() attributes {
  moe.bounds = {T = 36893488147419103232 : i128}}

// -----

// expected-error @+1 {{'moe.num_inputs' counts arguments of a function}}
func.func private @f(tensor<?x4xf32>) attributes {moe.num_inputs = 2}

// -----

// expected-error @+1 {{'moe.num_inputs' counts arguments of a function}}
func.func private @f(tensor<?x4xf32>) attributes {moe.num_inputs = -1}

// -----

// expected-error @+1 {{'moe.num_inputs' counts arguments of a function}}
func.func private @f() attributes {
  moe.num_inputs = 36893488147419103232 : i128}

// -----

// expected-error @+1 {{'moe.num_inputs' counts arguments of a function}}
module attributes {moe.num_inputs = 0} {}

// -----

// expected-error @+1 {{unknown attribute 'moe.entries'}}
func.func private @f() attributes {moe.entries}

// -----

//===----------------------------------------------------------------------===//
// Arguments and results of entries
//===----------------------------------------------------------------------===//

// expected-error @+1 {{'moe.name' is a name that is not empty}}
func.func private @f(tensor<?x4xf32> {moe.name = ""})

// -----

// expected-error @+1 {{'moe.name' is a name that is not empty}}
func.func private @f() -> (tensor<?x4xf32> {moe.name = 3})

// -----

// expected-error @+1 {{'moe.layout' is a #moe.layout or #moe.panels}}
func.func private @f(tensor<?x4xf32> {moe.layout = "out_in"})

// -----

// expected-error @+1 {{'moe.dims' has a string for every dimension, "" where it has no name}}
func.func private @f(tensor<?x4xf32> {moe.dims = ["T"]})

// -----

// expected-error @+1 {{'moe.dims' has a string for every dimension, "" where it has no name}}
func.func private @f(tensor<?x4xf32> {moe.dims = ["T", 4]})

// -----

// expected-error @+1 {{'moe.dims' has a string for every dimension, "" where it has no name}}
func.func private @f(tensor<*xf32> {moe.dims = []})

// -----

// expected-error @+1 {{'moe.dims' has a string for every dimension, "" where it has no name}}
func.func private @f() -> (index {moe.dims = []})

// -----

// expected-error @+1 {{unknown argument or result attribute 'moe.nome'}}
func.func private @f(tensor<?x4xf32> {moe.nome = "x"})

// -----

// expected-error @+1 {{panels have one or two sides, not 3}}
func.func private @panels_sides() attributes {test.panels = #moe.panels<columns = 48, steps = 1, sides = 3>}

// -----

// expected-error @+1 {{panels have at least one step, not 0}}
func.func private @panels_steps() attributes {test.panels = #moe.panels<columns = 64, steps = 0, sides = 1>}

// -----

// expected-error @+1 {{panels of 2 sides have a positive multiple of it of columns, not 63}}
func.func private @panels_columns() attributes {test.panels = #moe.panels<columns = 63, steps = 1, sides = 2>}
