// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

/// The inner loops of small dense networks, by hand: at batches of one to a few hundred rows and
/// layers of 64 a tensor library spends its time on everything but the sums. Row-major, float32.
/// Sums are made in a fixed order, so one machine gives the same bits each time.
namespace ballast::train::kernels {

/// out[rows][n] = bias[n] + in[rows][m] * weights[m][n]
void affine(const float* in, const float* weights, const float* bias, float* out, std::size_t rows,
            std::size_t m, std::size_t n);

/// weights_slope[m][n] += in^T * out_slope, bias_slope[n] += sum over rows of out_slope
void affine_slope(const float* in, const float* out_slope, float* weights_slope, float* bias_slope,
                  std::size_t rows, std::size_t m, std::size_t n);

/// in_slope[rows][m] = out_slope[rows][n] * weights^T
void affine_back(const float* out_slope, const float* weights, float* in_slope, std::size_t rows,
                 std::size_t m, std::size_t n);

/// A head of few outputs, weights[k][m]: out[rows][k] = bias[k] + in * weights^T
void head(const float* in, const float* weights, const float* bias, float* out, std::size_t rows,
          std::size_t m, std::size_t k);

/// weights_slope[k][m] += out_slope^T * in, bias_slope[k] += sum of out_slope, and where in_slope is
/// not null in_slope[rows][m] = out_slope * weights
void head_back(const float* in, const float* out_slope, const float* weights, float* weights_slope,
               float* bias_slope, float* in_slope, std::size_t rows, std::size_t m, std::size_t k);

}  // namespace ballast::train::kernels
